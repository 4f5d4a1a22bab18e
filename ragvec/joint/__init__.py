"""Several index folders searched as if they were one: up to ten or so, each built and brought up to date by itself."""

from ragvec.joint.joint import Joint, check_paths
from ragvec.joint.view import JointView

__all__ = ["Joint", "JointView", "check_paths"]
