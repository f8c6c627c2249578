"""The one tree of errors. A message says what was expected, what came, and what to do.

KlinestreamError
├── ConfigError            a key, a value or an environment variable that can't be used
├── RecordError            a record that can't be used: it goes to the dead letters
├── EngineError            the engine was called against its own laws: a fault in the program
│   └── OffsetsError      a batch doesn't continue the partition: the job must resume from its checkpoint
├── ExchangeError          the exchange answered with an error, or not at all
├── BrokerError            Kafka refused or lost something
│   └── DeliveryError      a record wasn't acknowledged
├── ArchiveError           a file of the archive can't be written, read, or isn't what it should be
├── ModelError             a model's folder can't be read, or isn't what it should be
├── StoreError             a database refused something, or can't be reached
│   └── SchemaError       its tables aren't those that this program writes: nothing gets better by trying again
├── WorkflowError          a step of a workflow failed, or a run can't go on
└── StackError             a part of the local stack can't start or go on
"""


class KlinestreamError(Exception):
    """Base of all errors that klinestream raises on purpose."""


class ConfigError(KlinestreamError):
    """A configuration key, value or environment variable that can't be used; names it."""


class RecordError(KlinestreamError):
    """A record that can't be used; the reason is short, stable and fit for a dead letter."""


class EngineError(KlinestreamError):
    """The engine was called against its own laws: a fault in the program, never in the data."""


class OffsetsError(EngineError):
    """A batch does not continue its partition's offsets, so records were lost or repeated on the way in."""


class ExchangeError(KlinestreamError):
    """The exchange answered with an error, or not at all."""


class BrokerError(KlinestreamError):
    """Kafka refused something, can't be reached, or is set up in another way than expected."""


class DeliveryError(BrokerError):
    """A record was not acknowledged by the broker."""


class ArchiveError(KlinestreamError):
    """A file of the archive can't be written or read, or isn't what it should be."""


class ModelError(KlinestreamError):
    """A model's folder can't be written or read, or isn't what it should be."""


class StoreError(KlinestreamError):
    """A database refused something or can't be reached."""


class SchemaError(StoreError):
    """A database's tables aren't those that this program writes; says what to do."""


class WorkflowError(KlinestreamError):
    """A step of a workflow failed, or a run can't go on; says why."""


class StackError(KlinestreamError):
    """A part of the local stack can't start or can't go on; says what to do."""
