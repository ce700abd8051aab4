// KServe's own controller, built as it is; the replacements are those of its go.mod, which Go takes from the main module alone.
module kserve

go 1.25.4

require github.com/kserve/kserve v0.17.0

replace (
	github.com/expr-lang/expr => github.com/expr-lang/expr v1.17.7
	github.com/lyft/protoc-gen-validate => github.com/envoyproxy/protoc-gen-validate v1.0.4
	sigs.k8s.io/controller-runtime => sigs.k8s.io/controller-runtime v0.19.7
)
