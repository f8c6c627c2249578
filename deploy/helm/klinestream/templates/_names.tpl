{{/* Names, labels and the image: what every resource has. */}}

{{/* 31 characters at most: Flink's operator takes names of 45, and `-trade-windows` is the longest that is put behind. */}}
{{- define "klinestream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 31 | trimSuffix "-" -}}
{{- else if contains "klinestream" .Release.Name -}}
{{- .Release.Name | trunc 31 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-klinestream" .Release.Name | trunc 31 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells this release's pods from all others, Strimzi's included: it hands app.kubernetes.io/part-of on to its pods, but not these. */}}
{{- define "klinestream.selector" -}}
app.kubernetes.io/name: klinestream
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "klinestream.labels" -}}
{{ include "klinestream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
Metadata of a resource; takes root, name, and perhaps component. Strimzi hands labels on to its pods, but those of app.kubernetes.io: a
label with the chart's version would start the brokers anew with each version.
*/}}
{{- define "klinestream.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- $labels := include "klinestream.labels" .root | fromYaml }}
  {{- toYaml (ternary (omit $labels "helm.sh/chart") $labels (eq (.component | default "") "kafka")) | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
{{- end -}}

{{- define "klinestream.image" -}}
{{- $image := .Values.image -}}
{{- $tagged := printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- if $image.digest -}}{{ printf "%s@%s" $tagged $image.digest }}{{- else -}}{{ $tagged }}{{- end -}}
{{- end -}}

{{/* Pods that may do nothing but their work. */}}
{{- define "klinestream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "klinestream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
