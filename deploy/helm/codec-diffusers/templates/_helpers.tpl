{{/* Name of the release's objects. */}}
{{- define "codec.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the objects of a component. Takes (dict "root" $ "component" "server" or "gateway"). */}}
{{- define "codec.name" -}}
{{- include "codec.fullname" .root }}{{ if ne .component "server" }}-{{ .component }}{{ end -}}
{{- end -}}

{{/* Labels that select the pods of a component. */}}
{{- define "codec.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "codec.labels" -}}
{{ include "codec.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end -}}

{{- define "codec.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The security contexts that the restricted Pod Security Standard requires. uid and gid are those of the image. */}}
{{- define "codec.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "codec.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Seconds between the preStop hook and SIGTERM, until the pod has left the endpoints of its Service. */}}
{{- define "codec.preStopSeconds" -}}5{{- end -}}

{{/*
Seconds from the deletion of a pod until SIGKILL: the preStop hook, the drain timeout, 10 s for generations that are cancelled
after it, and 15 s to stop.
*/}}
{{- define "codec.gracePeriodSeconds" -}}
{{- add (include "codec.preStopSeconds" .root | int) (ceil .values.drainTimeoutSeconds | int) 25 -}}
{{- end -}}

{{/* The variables of a map of settings. Numbers in values files are floats, which must not be rendered as 1e+10. */}}
{{- define "codec.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Variables of both components: settings, the chart's own variables and those of the user. */}}
{{- define "codec.env" -}}
{{- $values := .values -}}
- name: CODEC_METRICS_PORT
  value: "9090"
- name: CODEC_DRAIN_TIMEOUT_S
  value: {{ $values.drainTimeoutSeconds | quote }}
{{- if and .root.Values.image.digest (eq .component "server") }}
- name: CODEC_IMAGE_DIGEST
  value: {{ .root.Values.image.digest | quote }}
{{- end }}
{{- if $values.apiKeys.secret }}
- name: CODEC_API_KEYS_FILE
  value: {{ printf "/run/secrets/codec/api-keys/%s" $values.apiKeys.key | quote }}
{{- end }}
{{- if $values.tls.secret }}
- name: CODEC_TLS_CERT
  value: /run/secrets/codec/tls/tls.crt
- name: CODEC_TLS_KEY
  value: /run/secrets/codec/tls/tls.key
{{- if $values.tls.clientCa }}
- name: CODEC_TLS_CLIENT_CA
  value: /run/secrets/codec/tls/ca.crt
{{- end }}
{{- end }}
{{- include "codec.settings" $values.settings }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Mounts and volumes of the Secrets of both components. */}}
{{- define "codec.secretMounts" -}}
{{- if .values.apiKeys.secret }}
- name: api-keys
  mountPath: /run/secrets/codec/api-keys
  readOnly: true
{{- end }}
{{- if .values.tls.secret }}
- name: tls
  mountPath: /run/secrets/codec/tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "codec.secretVolumes" -}}
{{- if .values.apiKeys.secret }}
- name: api-keys
  secret:
    secretName: {{ .values.apiKeys.secret | quote }}
    defaultMode: 0440
{{- end }}
{{- if .values.tls.secret }}
- name: tls
  secret:
    secretName: {{ .values.tls.secret | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/*
The action of a probe: an HTTP request for `path`. Probes cannot send a certificate. Therefore, if clients need a certificate,
the readiness probe reads the metrics, and the liveness probe opens a TCP connection.
*/}}
{{- define "codec.probe" -}}
{{- if and .values.tls.secret .values.tls.clientCa (eq .path "/livez") -}}
tcpSocket:
  port: http
{{- else if and .values.tls.secret .values.tls.clientCa -}}
exec:
  command:
    - python
    - -I
    - -c
    - |
      import http.client, sys
      connection = http.client.HTTPConnection("127.0.0.1", 9090, timeout=4)
      connection.request("GET", "/metrics")
      sys.exit(b'\ncodec_state{codec_state="serving"} 1.0\n' not in connection.getresponse().read())
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  {{- if .values.tls.secret }}
  scheme: HTTPS
  {{- end }}
{{- end }}
timeoutSeconds: 5
{{- end -}}

{{/* Where pods of a component run, and the annotations of its pods. */}}
{{- define "codec.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
