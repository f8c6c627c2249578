{{/*
How Kafka is reached, by all parts alike: Strimzi's cluster of this release, or one that is there already.

  strimzi    bootstrap service of the cluster, TLS by its own authority, the user that the chart makes (a password or a certificate)
  external   what kafka.external says
*/}}

{{- define "klinestream.kafka.cluster" -}}
{{ include "klinestream.fullname" . }}-kafka
{{- end -}}

{{- define "klinestream.kafka.user" -}}
{{ include "klinestream.fullname" . }}
{{- end -}}

{{- define "klinestream.kafka.port" -}}
9093
{{- end -}}

{{/* The table [kafka] of klinestream.toml, without secrets, as JSON. */}}
{{- define "klinestream.kafka.table" -}}
{{- $found := dict -}}
{{- if .Values.kafka.strimzi.enabled -}}
{{- $host := printf "%s-kafka-bootstrap.%s.svc" (include "klinestream.kafka.cluster" .) .Release.Namespace -}}
{{- $_ := set $found "bootstrap_servers" (printf "%s:%s" $host (include "klinestream.kafka.port" .)) -}}
{{- $_ := set $found "ssl_cafile" "/etc/klinestream/kafka-ca/ca.crt" -}}
{{- if eq .Values.kafka.strimzi.authentication "tls" -}}
{{- $_ := set $found "security_protocol" "SSL" -}}
{{- $_ := set $found "ssl_certfile" "/etc/klinestream/kafka-user/user.crt" -}}
{{- $_ := set $found "ssl_keyfile" "/etc/klinestream/kafka-user/user.key" -}}
{{- else -}}
{{- $_ := set $found "security_protocol" "SASL_SSL" -}}
{{- $_ := set $found "sasl_mechanism" "SCRAM-SHA-512" -}}
{{- $_ := set $found "sasl_username" (include "klinestream.kafka.user" .) -}}
{{- end -}}
{{- else -}}
{{- $external := .Values.kafka.external -}}
{{- $_ := set $found "bootstrap_servers" (required "kafka.external.bootstrapServers: expected host:port of your brokers, since kafka.strimzi.enabled is false" $external.bootstrapServers) -}}
{{- $_ := set $found "security_protocol" $external.securityProtocol -}}
{{- if hasPrefix "SASL" $external.securityProtocol -}}
{{- $_ := set $found "sasl_mechanism" $external.saslMechanism -}}
{{- $_ := set $found "sasl_username" (required "kafka.external.saslUsername: expected a user, since kafka.external.securityProtocol asks for one" $external.saslUsername) -}}
{{- end -}}
{{- if $external.caSecret.name -}}
{{- $_ := set $found "ssl_cafile" (printf "/etc/klinestream/kafka-ca/%s" $external.caSecret.key) -}}
{{- end -}}
{{- if $external.certificateSecret -}}
{{- $_ := set $found "ssl_certfile" "/etc/klinestream/kafka-user/tls.crt" -}}
{{- $_ := set $found "ssl_keyfile" "/etc/klinestream/kafka-user/tls.key" -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The password, by reference. */}}
{{- define "klinestream.kafka.env" -}}
{{- $strimzi := .Values.kafka.strimzi -}}
{{- $external := .Values.kafka.external -}}
{{- if and $strimzi.enabled (eq $strimzi.authentication "scram-sha-512") -}}
- name: KLINESTREAM_KAFKA__SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "klinestream.kafka.user" . }}
      key: password
{{- else if and (not $strimzi.enabled) (hasPrefix "SASL" $external.securityProtocol) -}}
- name: KLINESTREAM_KAFKA__SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ required "kafka.external.saslPasswordSecret.name: expected the name of a Secret that holds the password of kafka.external.saslUsername" $external.saslPasswordSecret.name }}
      key: {{ $external.saslPasswordSecret.key }}
{{- end -}}
{{- end -}}

{{/* The authority and the user's certificate, as volumes and where they are mounted. */}}
{{- define "klinestream.kafka.volumes" -}}
{{- $strimzi := .Values.kafka.strimzi -}}
{{- if $strimzi.enabled }}
- name: kafka-ca
  secret:
    secretName: {{ include "klinestream.kafka.cluster" . }}-cluster-ca-cert
    items: [{key: ca.crt, path: ca.crt}]
{{- if eq $strimzi.authentication "tls" }}
- name: kafka-user
  secret:
    secretName: {{ include "klinestream.kafka.user" . }}
    items: [{key: user.crt, path: user.crt}, {key: user.key, path: user.key}]
{{- end }}
{{- else }}
{{- with .Values.kafka.external.caSecret }}
{{- if .name }}
- name: kafka-ca
  secret:
    secretName: {{ .name }}
    items: [{key: {{ .key }}, path: {{ .key }}}]
{{- end }}
{{- end }}
{{- with .Values.kafka.external.certificateSecret }}
- name: kafka-user
  secret:
    secretName: {{ . }}
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- end }}
{{- end -}}

{{- define "klinestream.kafka.mounts" -}}
{{- range $volume := include "klinestream.kafka.volumes" . | fromYamlArray }}
- name: {{ $volume.name }}
  mountPath: /etc/klinestream/{{ $volume.name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* The job that makes topics, by all that it is made of. */}}
{{- define "klinestream.topics.job" -}}
{{- $made := list (.Files.Get "files/topics.yaml") (include "klinestream.image" .) (toJson .Values.image) -}}
{{- $made = concat $made (list (include "klinestream.kafka.table" .) (dig "kafka" dict .Values.config | toJson) (toJson .Values.kafka.external)) -}}
{{ include "klinestream.fullname" . }}-topics-{{ $made | join " " | sha256sum | trunc 8 }}
{{- end -}}
