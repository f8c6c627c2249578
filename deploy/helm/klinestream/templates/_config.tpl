{{/*
klinestream.toml: `config` of the values, and over it what the chart alone knows: where Kafka is, that parts listen beyond their pod,
and where the server finds the others.
*/}}

{{/* A value as TOML writes it: JSON's texts, numbers and lists are TOML's, its objects aren't. */}}
{{- define "klinestream.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha -}}{{ if $index }},{{ end }} {{ toJson $key }} = {{ include "klinestream.toml.value" (get $ $key) }}{{- end }} }
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{- define "klinestream.toml" -}}
{{- range $section, $table := . }}
[{{ $section }}]
{{- range $key, $value := $table }}
{{ $key }} = {{ include "klinestream.toml.value" $value }}
{{- end }}
{{ end -}}
{{- end -}}

{{/* Everything, as JSON. */}}
{{- define "klinestream.config" -}}
{{- $root := . -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "kafka" (merge (include "klinestream.kafka.table" . | fromJson) (get $config "kafka" | default dict)) -}}
{{- $observed := list -}}
{{- range $instance := include "klinestream.instances" . | fromJsonArray -}}
{{- $table := get $config $instance.facts.section | default dict -}}
{{- $_ := set $table (ternary "host" "metrics_host" (eq $instance.facts.portKey "port")) "0.0.0.0" -}}
{{- if $instance.facts.metricsPort -}}
{{- $_ := set $table "metrics_host" "0.0.0.0" -}}
{{- end -}}
{{- $_ := set $config $instance.facts.section $table -}}
{{- if $instance.facts.observed -}}
{{- $as := ternary $instance.facts.observed $instance.name (empty $instance.facts.copies) -}}
{{- $observed = append $observed (printf "%s=http://%s-%s:%d" $as (include "klinestream.fullname" $root) $instance.name (int $instance.metricsPort)) -}}
{{- end -}}
{{- end -}}
{{- $server := get $config "server" | default dict -}}
{{- $_ := set $server "observe" $observed -}}
{{- $_ := set $server "flink_url" (include "klinestream.flink.urls" .) -}}
{{- $_ := set $config "server" $server -}}
{{- if include "klinestream.archive.local" . -}}
{{- $_ := set $config "archive" (merge (dict "url" "/var/lib/klinestream/archive") (get $config "archive" | default dict)) -}}
{{- end -}}
{{- if .Values.parts.workflow.enabled -}}
{{- $_ := set $config "workflow" (merge (dict "state_dir" "/var/lib/klinestream/workflow/runs") (get $config "workflow" | default dict)) -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/* What jobs read of it: another port of the server is no reason to take a savepoint. As JSON. */}}
{{- define "klinestream.config.jobs" -}}
{{- pick (include "klinestream.config" . | fromJson) "kafka" "windows" "candles" "indicators" "signals" "log" | toJson -}}
{{- end -}}
