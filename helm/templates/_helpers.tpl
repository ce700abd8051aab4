{{/* Name of the operator's objects. Never the name of a service's own objects. */}}
{{- define "aiops.operatorName" -}}
{{ .Release.Name }}-operator
{{- end }}

{{/*
Name of the operator's cluster-wide objects, one set a release and namespace. Joined by "-" alone the two could be split in
two ways (x-operator in y, x in operator-y): the digest is of both, and of the whole release name where that is cut.
*/}}
{{- define "aiops.clusterName" -}}
{{ .Release.Name | trunc 45 | trimSuffix "-" }}-operator-{{ printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 8 }}
{{- end }}

{{/* Labels that select the operator's pod. */}}
{{- define "aiops.operatorSelector" -}}
app.kubernetes.io/name: aiops-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The operator's pods, as a NetworkPolicy lets them in. */}}
{{- define "aiops.operatorPeer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Release.Namespace }}
podSelector:
  matchLabels:
    {{- include "aiops.operatorSelector" . | nindent 4 }}
{{- end }}

{{/* Labels of every object of the chart, without its name. */}}
{{- define "aiops.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: aiops-quality
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of the operator's objects. */}}
{{- define "aiops.operatorLabels" -}}
{{ include "aiops.operatorSelector" . }}
{{ include "aiops.releaseLabels" . }}
{{- end }}

{{/* Labels of the InferenceServices and of their artifacts. */}}
{{- define "aiops.serviceLabels" -}}
app.kubernetes.io/name: aiops-quality
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "aiops.releaseLabels" . }}
{{- end }}

{{/* Reference of an image: (dict "image" .Values.image "root" .) */}}
{{- define "aiops.imageReference" -}}
{{- /* `--set image.tag=20260102` is a number, which would be printed with an exponent. */ -}}
{{- $tag := kindIs "string" .image.tag | ternary .image.tag (int64 .image.tag | toString) -}}
{{- if hasPrefix "sha256:" $tag -}}
{{ .image.repository }}@{{ $tag }}
{{- else -}}
{{ .image.repository }}:{{ $tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/*
Reference of the operator's image: what operatorImage leaves empty is that of the inference image, whose repository gets
the suffix -operator. A digest is of one image only and not taken over.
*/}}
{{- define "aiops.operatorImage" -}}
{{- $repository := .Values.operatorImage.repository | default (printf "%s-operator" .Values.image.repository) -}}
{{- $inferenceTag := hasPrefix "sha256:" (toString .Values.image.tag) | ternary "" .Values.image.tag -}}
{{- $tag := eq (toString .Values.operatorImage.tag) "" | ternary $inferenceTag .Values.operatorImage.tag -}}
{{ include "aiops.imageReference" (dict "image" (dict "repository" $repository "tag" $tag) "root" .) }}
{{- end }}

{{/* Name of a service: (dict "service" <entry> "root" .) */}}
{{- define "aiops.serviceName" -}}
{{ .service.name | default .root.Release.Name }}
{{- end }}

{{/*
Whether a service's artifacts are the files of the chart: "true" or "". (dict "service" <entry>)
*/}}
{{- define "aiops.ownArtifacts" -}}
{{- $artifacts := .service.artifacts | default dict -}}
{{- if not (or $artifacts.existingConfigMap $artifacts.persistentVolumeClaim $artifacts.image $artifacts.uri) -}}true{{- end -}}
{{- end }}

{{/* Refuses what the schema of the values cannot see. */}}
{{- define "aiops.validate" -}}
{{- if and .Values.operator.enabled .Values.watchNamespaces .Values.inferenceServices (not (has .Release.Namespace .Values.watchNamespaces)) -}}
{{- fail (printf "watchNamespaces: the operator would not see the InferenceServices of this release: add its namespace %q to the list" .Release.Namespace) -}}
{{- end -}}
{{- $names := list -}}
{{- range $index, $service := .Values.inferenceServices -}}
{{- $name := include "aiops.serviceName" (dict "service" $service "root" $) -}}
{{- $where := printf "inferenceServices[%d]" $index -}}
{{- if or (gt (len $name) 50) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) -}}
{{- fail (printf "%s: the name %q cannot be that of a Service: set %s.name to at most 50 lower-case letters, digits and '-', with a letter first, such as iris" $where $name $where) -}}
{{- end -}}
{{- if has $name $names -}}
{{- fail (printf "%s: two services are called %q: set %s.name to another" $where $name $where) -}}
{{- end -}}
{{- if and $.Values.operator.enabled (eq $name (include "aiops.operatorName" $)) -}}
{{- fail (printf "%s: %q is the name of the operator's own objects: set %s.name to another" $where $name $where) -}}
{{- end -}}
{{- $names = append $names $name -}}
{{- if dig "model" "artifacts" "" ($service.spec | default dict) -}}
{{- fail (printf "%s.spec.model.artifacts: write it as %s.artifacts instead" $where $where) -}}
{{- end -}}
{{- end -}}
{{- end }}
