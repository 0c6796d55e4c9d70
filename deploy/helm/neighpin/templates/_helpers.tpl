{{- /* The name of all objects. */ -}}
{{- define "neighpin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "neighpin.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "neighpin.fullname" .) -}}
{{- end -}}

{{- define "neighpin.image" -}}
{{- $tag := .Values.image.tag -}}
{{- if not (or $tag .Values.image.digest) }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- .Values.image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- /* What never changes: a DaemonSet keeps its selector. */ -}}
{{- define "neighpin.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "neighpin.labels" -}}
{{ include "neighpin.selectorLabels" . }}
app.kubernetes.io/component: node
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The capabilities, as the configuration needs them: names alone. */ -}}
{{- define "neighpin.capabilities" -}}
SYS_ADMIN,NET_ADMIN,NET_BROADCAST
{{- if eq (toString .Values.config.learned) "probe" }},NET_RAW{{ end -}}
{{- if .Values.config.observe }},BPF{{ end -}}
{{- end -}}
