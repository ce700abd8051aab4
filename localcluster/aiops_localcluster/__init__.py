"""A real Kubernetes on this machine, for the demo and the tests.

- `control_plane`: API server and controllers for the length of a with block; no node, no root.
- `open_cluster`: a whole cluster, local or of kind, or the one that is already there.
- `argo_cd`: a real Argo CD beside a cluster.
- `images`: our Dockerfiles built, with docker or without.
- `ensure`: kubectl, helm and the rest, found or built in the pinned version.
"""

from aiops_localcluster import images
from aiops_localcluster.argocd import ArgoCD, argo_cd
from aiops_localcluster.binaries import ensure
from aiops_localcluster.cluster import Cluster, CurrentCluster, KindCluster, LocalCluster, open_cluster
from aiops_localcluster.controlplane import ControlPlane, control_plane
from aiops_localcluster.errors import LocalClusterError

__all__ = [
    "ArgoCD",
    "Cluster",
    "ControlPlane",
    "CurrentCluster",
    "KindCluster",
    "LocalCluster",
    "LocalClusterError",
    "argo_cd",
    "control_plane",
    "ensure",
    "images",
    "open_cluster",
]
