{{- define "gramophone.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "gramophone.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gramophone.labels" -}}
{{ include "gramophone.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "gramophone.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (ternary "cuda" "cpu" (gt (int .Values.gpus) 0)) }}
{{- end }}

{{- define "gramophone.secure" -}}
{{- if and .Values.tls.existingSecret .Values.tokens.existingSecret }}true{{ end }}
{{- end }}

{{/* Combinations of values that values.schema.json cannot check. */}}
{{- define "gramophone.check" -}}
{{- if not (or .Values.insecure (include "gramophone.secure" .)) }}
{{- fail "The server would not start: set tls.existingSecret and tokens.existingSecret, or insecure: true for a network that you trust." }}
{{- end }}
{{- if and (or (gt (int .Values.replicas) 1) .Values.keda.enabled) (not .Values.cluster.enabled) }}
{{- fail "replicas above 1 and keda.enabled need cluster.enabled: true, because other servers cannot share a data volume." }}
{{- end }}
{{- if .Values.cluster.enabled }}
{{- if not .Values.database.existingSecret }}
{{- fail "cluster.enabled needs database.existingSecret, the URL of a PostgreSQL database that all servers use." }}
{{- end }}
{{- if not (or .Values.data.existingClaim (eq .Values.data.accessMode "ReadWriteMany")) }}
{{- fail "cluster.enabled needs data.accessMode: ReadWriteMany, or an existing claim of that kind in data.existingClaim." }}
{{- end }}
{{- end }}
{{- if hasKey .Values.settings "GRAMOPHONE_GRACE" }}
{{- fail "Set grace instead of settings.GRAMOPHONE_GRACE: the chart gives the pod some seconds more." }}
{{- end }}
{{- end }}
