"""Where Dask runs units of work: a running scheduler, this machine, or a batch system's nodes."""

from utils.system.clusters.cluster import Cluster, connected
from utils.system.clusters.options import job_script
from utils.system.clusters.units import results

__all__ = ["Cluster", "connected", "job_script", "results"]
