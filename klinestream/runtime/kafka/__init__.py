"""Kafka behind one small interface: `Publisher` and `Reader`, kept by both client libraries alike."""

from klinestream.runtime.kafka.interface import Publisher, Reader, Record, Settled
from klinestream.runtime.kafka.opening import check_settings, open_publisher, open_reader

__all__ = ["Publisher", "Reader", "Record", "Settled", "check_settings", "open_publisher", "open_reader"]
