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

{{/* Name of the Ray cluster, which KubeRay extends for the names of its pods and services. */}}
{{- define "gramophone.ray" -}}
{{ include "gramophone.name" . | trunc 36 | trimSuffix "-" }}-ray
{{- end }}

{{/* Address of the head of the Ray cluster. */}}
{{- define "gramophone.rayAddress" -}}
{{ include "gramophone.ray" . }}-head-svc:6379
{{- end }}

{{/* Whether each server has a data volume of its own, because all files that others need are in an object store. */}}
{{- define "gramophone.ownData" -}}
{{- if and .Values.cluster.enabled .Values.files.url }}true{{ end }}
{{- end }}

{{- define "gramophone.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "gramophone.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The volumes that a server and a worker on another node see at the same paths. */}}
{{- define "gramophone.volumes" -}}
- name: data
  {{- if include "gramophone.ownData" . }}
  emptyDir: {sizeLimit: {{ .Values.data.size }}}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.data.existingClaim | default (printf "%s-data" (include "gramophone.name" .)) }}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- if .Values.ray.enabled }}
- name: shm
  emptyDir: {medium: Memory}
{{- end }}
{{- with .Values.models.existingClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ . | quote }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "gramophone.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if .Values.ray.enabled }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- if .Values.models.existingClaim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
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
{{- if not (or .Values.files.url .Values.data.existingClaim (eq .Values.data.accessMode "ReadWriteMany")) }}
{{- fail "cluster.enabled needs data.accessMode: ReadWriteMany, an existing claim of that kind in data.existingClaim, or files.url." }}
{{- end }}
{{- end }}
{{- if .Values.ray.enabled }}
{{- if include "gramophone.ownData" . }}
{{- fail "ray.enabled needs a data volume that servers and Ray nodes share: leave files.url empty, or cluster.enabled false." }}
{{- end }}
{{- if not (or .Values.data.existingClaim (eq .Values.data.accessMode "ReadWriteMany")) }}
{{- fail "ray.enabled needs data.accessMode: ReadWriteMany, or an existing claim of that kind in data.existingClaim." }}
{{- end }}
{{- if and .Values.cluster.enabled (not (hasKey .Values.settings "GRAMOPHONE_RAY_WORKERS")) }}
{{- fail "ray.enabled with cluster.enabled needs settings.GRAMOPHONE_RAY_WORKERS, or the first server takes all places of the Ray cluster." }}
{{- end }}
{{- end }}
{{- if hasKey .Values.settings "GRAMOPHONE_GRACE" }}
{{- fail "Set grace instead of settings.GRAMOPHONE_GRACE: the chart gives the pod some seconds more." }}
{{- end }}
{{- end }}
