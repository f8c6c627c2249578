#!/usr/bin/env bash
# Look up known vulnerabilities of all locked packages: those that run, develop and train. The last lock file holds the other two, with
# the same versions (a test sees to it), so one look does. Only where the advisory service can't be reached does it pass without; what is
# known of one package counts though another could not be looked up.
set -uo pipefail

unreachable() {
    echo "the advisory service could not be reached ($1): nothing was proved; run 'make check' again where it can be" >&2
    exit 0
}

output=$(.venv/bin/pip-audit --disable-pip --require-hashes --progress-spinner off -r requirements-ml.lock 2>&1)
code=$?
if grep -q "^Found [0-9]* known vulnerabilit" <<<"$output"; then
    echo "$output"
    exit 1
fi
unaudited=$(grep -c "could not be audited" <<<"$output")
[ "$unaudited" = 0 ] || unreachable "it knows nothing of $unaudited packages"
if [ $code -ne 0 ] && grep -Eq "ConnectionError|Max retries|ServiceError|Temporary failure|timed out|Forbidden" <<<"$output"; then
    unreachable "no answer"
fi
echo "$output"
exit $code
