{{/* The jobs that run: a list of {job, name, chosen}, as JSON. */}}
{{- define "klinestream.jobs" -}}
{{- $root := . -}}
{{- $found := list -}}
{{- if .Values.flink.enabled -}}
{{- range $job, $chosen := .Values.flink.jobs -}}
{{- if $chosen.enabled -}}
{{- $name := printf "%s-%s" (include "klinestream.fullname" $root) ($job | replace "_" "-") -}}
{{- $found = append $found (dict "job" $job "name" $name "chosen" $chosen) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Each job is a cluster of its own, with a REST interface of its own: all of them, for /status. */}}
{{- define "klinestream.flink.urls" -}}
{{- $urls := list -}}
{{- range include "klinestream.jobs" . | fromJsonArray -}}
{{- $urls = append $urls (printf "http://%s-rest:8081" .name) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{/*
Flink's settings for a job: files/flink.yaml, which is flink-conf/config.yaml less what concerns one machine; what Kubernetes needs;
where state lives; and what the values say. A map, as JSON; all values are text.
*/}}
{{- define "klinestream.flink.configuration" -}}
{{- $root := .root -}}
{{- $flink := $root.Values.flink -}}
{{- $storage := required "flink.storage: expected a folder in object storage for checkpoints, savepoints and what job managers leave to their successors, for example s3://bucket/klinestream" $flink.storage -}}
{{- $place := printf "%s/%s/%s" (trimSuffix "/" $storage) $root.Release.Namespace .name -}}
{{- $found := $root.Files.Get "files/flink.yaml" | fromYaml -}}
{{- $own := dict
  "execution.checkpointing.dir" (printf "%s/checkpoints" $place)
  "execution.checkpointing.savepoint-dir" (printf "%s/savepoints" $place)
  "high-availability.type" "kubernetes"
  "high-availability.storageDir" (printf "%s/ha" $place)
  "taskmanager.numberOfTaskSlots" ($flink.slots | toString)
  "python.executable" $flink.python
  "python.client.executable" $flink.python
  "pipeline.classpaths" (printf "file://%s" $flink.connectorJar)
  "metrics.reporter.prom.port" "9249"
  "kubernetes.operator.periodic.savepoint.interval" $flink.savepoints.every
  "kubernetes.operator.savepoint.history.max.age" $flink.savepoints.keep
  "kubernetes.operator.savepoint.history.max.count" ($flink.savepoints.keepMost | toString)
  "kubernetes.operator.job.upgrade.last-state-fallback.enabled" "true"
-}}
{{- $text := dict -}}
{{- range $key, $value := merge (deepCopy (.chosen.configuration | default dict)) (deepCopy $flink.configuration) $own $found -}}
{{- /* A number as JSON writes it: as a text it would be 2.147483647e+09. */ -}}
{{- $_ := set $text $key (ternary $value (toJson $value) (kindIs "string" $value)) -}}
{{- end -}}
{{- toJson $text -}}
{{- end -}}

{{/* Both managers' pods; takes root, job, name, chosen. */}}
{{- define "klinestream.flink.pod" -}}
metadata:
  labels:
    {{- include "klinestream.selector" .root | nindent 4 }}
    app.kubernetes.io/component: flink
    klinestream.io/job: {{ .job }}
    klinestream.io/reaches-kafka: "true"
    klinestream.io/reaches-storage: "true"
    klinestream.io/reaches-kubernetes: "true"
  annotations:
    # Another configuration is another revision of the job: the operator takes a savepoint and goes on from there.
    checksum/config: {{ include "klinestream.config.jobs" .root | sha256sum }}
spec:
  enableServiceLinks: false
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "klinestream.podSecurity" .root | nindent 4 }}
  containers:
    - name: flink-main-container
      {{- $env := include "klinestream.kafka.env" .root | trim }}
      env:
        {{- with $env }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- range $variable, $secret := .root.Values.flink.secrets }}
        - name: {{ $variable }}
          valueFrom:
            secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}
        {{- end }}
        - name: FLINK_CONF_DIR
          value: /opt/flink/conf
        - name: PYTHONDONTWRITEBYTECODE
          value: "1"
      ports:
        - name: metrics
          containerPort: 9249
      securityContext:
        {{- include "klinestream.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        - name: klinestream-config
          mountPath: /etc/klinestream/config
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- include "klinestream.kafka.mounts" .root | nindent 8 }}
  volumes:
    - name: klinestream-config
      configMap:
        name: {{ include "klinestream.fullname" .root }}-jobs
    # RocksDB's files and Python's sockets.
    - name: tmp
      emptyDir:
        sizeLimit: {{ .root.Values.flink.tmpSize }}
    {{- include "klinestream.kafka.volumes" .root | nindent 4 }}
{{- end -}}
