{{/*
Which parts run, and what a pod of one is made of. files/parts.yaml says what a part is, values.yaml what was chosen for it.
*/}}

{{/* The Deployments: a list, as JSON, of {name, part, facts, chosen, port, metricsPort, metricsName}. */}}
{{- define "klinestream.instances" -}}
{{- $root := . -}}
{{- $found := list -}}
{{- range $part, $facts := .Files.Get "files/parts.yaml" | fromYaml -}}
{{- $chosen := get $root.Values.parts $part | deepCopy -}}
{{- $_ := set $chosen "secrets" ($chosen.secrets | default dict) -}}
{{- if $chosen.enabled -}}
{{- range $variable := $facts.needs -}}
{{- if not (hasKey $chosen.secrets $variable) -}}
{{- fail (printf "parts.%s.secrets.%s: expected {name, key} of a Secret that you have made, since `klinestream %s` does not start without it" $part $variable (join " " $facts.command)) -}}
{{- end -}}
{{- end -}}
{{- $port := dig $facts.section $facts.portKey $facts.port $root.Values.config | int -}}
{{- if not $port -}}
{{- fail (printf "config.%s.%s: expected a port, got 0: its probes ask there" $facts.section $facts.portKey) -}}
{{- end -}}
{{- $metrics := $port -}}
{{- if $facts.metricsPort -}}
{{- $metrics = dig $facts.section "metrics_port" $facts.metricsPort $root.Values.config | int -}}
{{- if not $metrics -}}
{{- fail (printf "config.%s.metrics_port: expected a port, got 0: Prometheus and the server ask there" $facts.section) -}}
{{- end -}}
{{- end -}}
{{- $names := list $part -}}
{{- if $facts.copies -}}
{{- $names = list -}}
{{- range $copy := ternary $facts.copies (list (first $facts.copies)) $chosen.standby -}}
{{- $names = append $names (printf "%s-%s" $part $copy) -}}
{{- end -}}
{{- end -}}
{{- range $name := $names -}}
{{- $found = append $found (dict "name" $name "part" $part "facts" $facts "chosen" $chosen "port" $port "metricsPort" $metrics "metricsName" (ternary "metrics" "http" (hasKey $facts "metricsPort"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* How many pods of a part there are at least. */}}
{{- define "klinestream.least" -}}
{{- if .facts.copies -}}{{ ternary 2 1 .chosen.standby }}
{{- else if .facts.single -}}1
{{- else if dig "autoscaling" "enabled" false .chosen -}}{{ .chosen.autoscaling.minReplicas }}
{{- else -}}{{ .chosen.replicas | default 1 }}
{{- end -}}
{{- end -}}

{{/* The archive is a volume of its own unless config.archive.url names another place. */}}
{{- define "klinestream.archive.local" -}}
{{- if not (dig "archive" "url" "" .Values.config) -}}true{{- end -}}
{{- end -}}

{{- define "klinestream.archive.claim" -}}
{{- .Values.archive.existingClaim | default (printf "%s-archive" (include "klinestream.fullname" .)) -}}
{{- end -}}

{{/* Variables of a container: secrets by reference, then what was chosen. */}}
{{- define "klinestream.part.env" -}}
{{- range $variable, $secret := .chosen.secrets }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- if eq .part "producer" }}
# Its name in the ledger of gaps stays the same whichever pod it is.
- name: KLINESTREAM_PRODUCER__NAME
  value: {{ .name }}
{{- end }}
{{- if and (eq .part "server") (not (hasKey .chosen.secrets "KLINESTREAM_SERVER__TOKENS")) }}
{{- if not .chosen.public }}
{{- fail "parts.server.secrets.KLINESTREAM_SERVER__TOKENS: expected {name, key} of a Secret with the server's tokens; or set parts.server.public to true if something else keeps strangers out" }}
{{- end }}
- name: KLINESTREAM_SERVER__PUBLIC
  value: "true"
{{- else if and (eq .part "server") .root.Values.monitoring.enabled (not .chosen.metricsToken.name) }}
{{- fail "parts.server.metricsToken.name: expected {name, key} of a Secret with one of the server's tokens, since it has tokens and monitoring.enabled is true: without one Prometheus gets no metrics" }}
{{- end }}
{{- range $variable, $value := .chosen.env }}
- name: {{ $variable }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "klinestream.part.volumes" -}}
- name: config
  configMap:
    name: {{ include "klinestream.fullname" .root }}-config
- name: tmp
  emptyDir:
    sizeLimit: {{ .chosen.tmpSize | default "1Gi" }}
{{- if has "kafka" .facts.reaches }}
{{- include "klinestream.kafka.volumes" .root }}
{{- end }}
{{- if include "klinestream.part.hasArchive" . }}
- name: archive
  persistentVolumeClaim:
    claimName: {{ include "klinestream.archive.claim" .root }}
{{- end }}
{{- if eq .part "workflow" }}
- name: workflow
  persistentVolumeClaim:
    claimName: {{ include "klinestream.fullname" .root }}-workflow
{{- end }}
{{- if eq .part "model" }}
{{- if not .chosen.volume }}
{{- fail "parts.model.volume: expected the volume with the model's folder, for example {persistentVolumeClaim: {claimName: model, readOnly: true}}" }}
{{- end }}
- name: model
  {{- toYaml .chosen.volume | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "klinestream.part.mounts" -}}
- name: config
  mountPath: /etc/klinestream/config
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if has "kafka" .facts.reaches }}
{{- include "klinestream.kafka.mounts" .root }}
{{- end }}
{{- if include "klinestream.part.hasArchive" . }}
- name: archive
  mountPath: /var/lib/klinestream/archive
{{- end }}
{{- if eq .part "workflow" }}
- name: workflow
  mountPath: /var/lib/klinestream/workflow
{{- end }}
{{- if eq .part "model" }}
- name: model
  mountPath: /var/lib/klinestream/model
  readOnly: true
{{- end }}
{{- end -}}

{{/* The archive's volume is a part's; "true" or nothing. */}}
{{- define "klinestream.part.hasArchive" -}}
{{- if and (has .part (list "archive" "proof" "workflow")) (include "klinestream.archive.local" .root) }}true{{ end -}}
{{- end -}}

{{/*
A part stands on a volume that others have, too: the archive's, or the workflows', from which a model may be served. "true" or nothing. One
label for both, since workflows have both; and the scheduler looks for one pod that fits all terms of an affinity, so that two terms, each
for a volume of its own, would find none and ask for nothing.
*/}}
{{- define "klinestream.part.sharesVolume" -}}
{{- $served := dig "volume" "persistentVolumeClaim" "claimName" "" .chosen -}}
{{- $claim := printf "%s-workflow" (include "klinestream.fullname" .root) -}}
{{- $serves := and (eq .part "model") .root.Values.parts.workflow.enabled (eq $served $claim) -}}
{{- if or (include "klinestream.part.hasArchive" .) (eq .part "workflow") $serves }}true{{ end -}}
{{- end -}}

{{/*
Pods of a part in different zones and on different machines, if they can. The two producers must: neither starts in the other's zone. Those
that share a volume which one machine alone can have stand on one machine, whoever of them starts first.
*/}}
{{- define "klinestream.part.placement" -}}
{{- $labels := include "klinestream.selector" .root | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/component" .part -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels: {{- toYaml $labels | nindent 8 }}
  {{- end }}
{{- if .facts.copies }}
{{- $others := dict "matchLabels" $labels "matchExpressions" (list (dict "key" "klinestream.io/instance" "operator" "NotIn" "values" (list .name))) -}}
{{- $apart := dict "topologyKey" "topology.kubernetes.io/zone" "labelSelector" $others }}
affinity:
  podAntiAffinity:
    {{- if eq .root.Values.zones "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - {{- toYaml $apart | nindent 8 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm: {{- toYaml $apart | nindent 10 }}
    {{- end }}
{{- end }}
{{- if and (include "klinestream.part.sharesVolume" .) (not (has "ReadWriteMany" .root.Values.archive.accessModes)) }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "klinestream.selector" .root | nindent 12 }}
            klinestream.io/shares-volume: "true"
{{- end }}
{{- with .chosen.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .chosen.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .chosen.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
