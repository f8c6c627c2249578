#!/bin/sh
# What Flink's Kubernetes integration puts before each command of a pod. Everything is arranged already: run it.
exec "$@"
