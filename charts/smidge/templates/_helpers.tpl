{{- /* Name of all objects: a cluster has one Smidge, and the configuration of proxies contains this name. */ -}}
{{- define "smidge.name" -}}smidge{{- end -}}

{{- define "smidge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "smidge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "smidge.labels" -}}
{{ include "smidge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: smidge
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "smidge.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Kinds of files/crds.yaml: they are watched, validated and given a status. */ -}}
{{- define "smidge.kinds" -}}
kinds:
{{- range $document := splitList "---\n" (.Files.Get "files/crds.yaml") }}
{{- with $document | fromYaml }}
  - {group: {{ .spec.group }}, plural: {{ .spec.names.plural }}, scope: {{ .spec.scope }}}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Authorities of the client certificates that the webhooks accept; empty: the webhooks require none. */ -}}
{{- define "smidge.clientCA" -}}
{{- with .Values.webhook -}}{{ .clientCA }}{{- end -}}
{{- end -}}

{{- /* Not empty if TrafficMetrics are served. Values of an older release do not have the setting. */ -}}
{{- define "smidge.trafficMetrics" -}}
{{- with .Values.trafficMetrics -}}{{- if .enabled -}}true{{- end -}}{{- end -}}
{{- end -}}

{{- /* Settings of Prometheus as the source of TrafficMetrics, as JSON; an empty object if it is not the source. */ -}}
{{- define "smidge.prometheusSource" -}}
{{- $source := dict -}}
{{- if include "smidge.trafficMetrics" . -}}
{{- with (.Values.trafficMetrics.source | default dict).prometheus -}}{{- if .url -}}{{- $source = . -}}{{- end -}}{{- end -}}
{{- end -}}
{{ toJson $source }}
{{- end -}}

{{- /* Peers of a NetworkPolicy for the API server; empty, which means all peers, if no value names it. */ -}}
{{- define "smidge.apiServerPeers" -}}
{{- $peers := .from -}}
{{- range .cidrs -}}
{{- $peers = append $peers (dict "ipBlock" (dict "cidr" .)) -}}
{{- end -}}
{{- if and (not $peers) .podCidrs -}}
{{- range $all := list "0.0.0.0/0" "::/0" -}}
{{- $except := list -}}
{{- range $.podCidrs -}}
{{- if eq (contains ":" .) (contains ":" $all) -}}
{{- $except = append $except . -}}
{{- end -}}
{{- end -}}
{{- $block := dict "cidr" $all -}}
{{- if $except -}}
{{- $_ := set $block "except" $except -}}
{{- end -}}
{{- $peers = append $peers (dict "ipBlock" $block) -}}
{{- end -}}
{{- end -}}
{{- with $peers -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{/* The IP families of a Service. Values of an older release do not have them: the cluster's default applies. */}}
{{- define "smidge.families" -}}
{{- with (.Values.service | default dict).ipFamilyPolicy -}}
ipFamilyPolicy: {{ . }}
{{- end -}}
{{- end -}}

