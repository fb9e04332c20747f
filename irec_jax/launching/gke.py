"""A JobSet for TPU slices of a GKE cluster, restarted as a whole until the run is done."""

import dataclasses
import re
import shlex
from typing import Any

import yaml

from irec_jax.exit_codes import EXIT_BAD_INPUT
from irec_jax.launching.launch_plan import JobFile, LaunchPlan
from irec_jax.launching.slices import SliceSettings
from irec_jax.launching.target_checks import check_name

MOUNT = "/bucket"
CONTAINER = "irec"
SERVICE_ACCOUNT = "irec"
"""The Kubernetes service account that may read and write the bucket: launch/README.md."""
SECRET = "irec-environment"
"""The Kubernetes Secret whose entries become variables of the processes, if it exists."""

# Hosts write into one folder and must see each other's files at once, so caching is off.
MOUNT_OPTIONS = "implicit-dirs,metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0"
_PORTS = (8471, 8482)
"""Ports of the TPU runtime between hosts, and of JAX's coordinator."""
# Kubernetes reads 1e-3 as a number and y as a truth value; PyYAML would write both without quotes.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]+")


class _Dumper(yaml.SafeDumper):
    """A safe dumper that indents lists and quotes all text but plain words."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if _PLAIN.fullmatch(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GkeTarget(SliceSettings):
    """A JobSet on TPU slices of a GKE cluster.

    Attributes:
        image: A container image with irec, as launch/Dockerfile builds it.
    """

    image: str

    def check(self, plan: LaunchPlan) -> None:
        """Refuses an unknown slice, malformed names, and paths outside of the bucket."""
        self.check_slices(plan)
        check_name("image", self.image)

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the manifest for `kubectl apply -f`."""
        tpu = self.slice
        pools = f"{self.slices} of {tpu.hosts} x {tpu.machine_type}, {tpu.shape}"
        comments = [plan.launch_command(self), "", "Before, copy the inputs into the bucket:"]
        pack = [shlex.join(plan.pack_command())] if plan.packed else []
        comments += [f"  {command}" for command in [*pack, *self.upload_commands(plan)]]
        comments += [f"Node pools: {pools}"]
        head = "".join(f"# {comment}".rstrip() + "\n" for comment in comments)
        body = yaml.dump(self._job_set(plan), Dumper=_Dumper, sort_keys=False, width=float("inf"))
        return JobFile(head + body, ".yaml", ("kubectl", "apply", "-f"), ("kubectl",))

    def _job_set(self, plan: LaunchPlan) -> dict[str, Any]:
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": plan.name,
                # A slice is a node pool, and a job must not get a part of one.
                "annotations": {
                    "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
                },
            },
            "spec": {
                "failurePolicy": {
                    "maxRestarts": self.restarts,
                    "rules": [
                        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
                    ],
                },
                "replicatedJobs": [
                    {
                        "name": "slice",
                        "replicas": self.slices,
                        "template": {"spec": self._job(plan)},
                    }
                ],
            },
        }

    def _job(self, plan: LaunchPlan) -> dict[str, Any]:
        exit_codes = {"containerName": CONTAINER, "operator": "In", "values": [EXIT_BAD_INPUT]}
        return {
            "parallelism": self.slice.hosts,
            "completions": self.slice.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": exit_codes}]},
            "template": {
                "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}},
                "spec": self._pod(plan),
            },
        }

    def _pod(self, plan: LaunchPlan) -> dict[str, Any]:
        selector = {
            "cloud.google.com/gke-tpu-accelerator": self.slice.names.label,
            "cloud.google.com/gke-tpu-topology": self.slice.shape,
        }
        tolerations = []
        if self.spot:
            selector["cloud.google.com/gke-spot"] = "true"
            tolerations = [
                {
                    "key": "cloud.google.com/gke-spot",
                    "operator": "Equal",
                    "value": "true",
                    "effect": "NoSchedule",
                }
            ]
        volume = {"bucketName": self.bucket_name, "mountOptions": MOUNT_OPTIONS}
        csi = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": volume}
        return {
            "serviceAccountName": SERVICE_ACCOUNT,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": self.grace,
            "nodeSelector": selector,
            **({"tolerations": tolerations} if tolerations else {}),
            "containers": [self._container(plan)],
            "volumes": [{"name": "bucket", "csi": csi}],
        }

    def _container(self, plan: LaunchPlan) -> dict[str, Any]:
        variables = plan.variables()
        if self.hosts > 1:
            variables = {"IREC_DISTRIBUTED": "auto", **variables}
        chips = self.slice.host_chips
        container = {
            "name": CONTAINER,
            "image": self.image,
            # Without a shell, so that SIGTERM reaches Python. A JobSet removes the pods of an
            # attempt before the next one, so that a lock they left is taken over.
            "command": [_escape(argument) for argument in plan.tune_command(take_over=True)],
            "workingDir": MOUNT,
            "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
            "env": [{"name": key, "value": _escape(value)} for key, value in variables.items()],
            "ports": [{"containerPort": port} for port in _PORTS],
            "resources": {
                "requests": {"google.com/tpu": chips},
                "limits": {"google.com/tpu": chips},
            },
            "volumeMounts": [{"name": "bucket", "mountPath": MOUNT}],
        }
        return {key: value for key, value in container.items() if value}


def _escape(text: str) -> str:
    """Escapes an argument of `command` or a value of `env`, where Kubernetes expands `$(NAME)`.

    It reads every `$$` as one dollar sign, wherever it is, so all dollar signs are doubled.
    """
    return text.replace("$", "$$")
