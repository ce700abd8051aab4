module aiops-quality.io/localcluster/pause

go 1.26.0
