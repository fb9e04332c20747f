"""A JobSet for TPU slices of a GKE cluster, restarted as a whole until the run is done."""

import shlex
from typing import Any

from irec_jax.launching.launch_plan import EXIT_BAD_INPUT, JobManifest, LaunchPlan
from irec_jax.launching.slices import Slice, read_slice
from irec_jax.launching.yaml_text import to_yaml

MOUNT = "/bucket"
CONTAINER = "irec"
SERVICE_ACCOUNT = "irec"
"""The Kubernetes service account that may read and write the bucket: launch/README.md."""
SECRET = "irec-environment"
"""The Kubernetes Secret whose entries become variables of the processes, where there is one."""

# Hosts write into one folder and must see each other's files at once, so nothing is remembered.
MOUNT_OPTIONS = "implicit-dirs,metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0"
_PORTS = (8471, 8482)
"""Of the TPU runtime between hosts, and of JAX's coordinator."""


def render(plan: LaunchPlan) -> JobManifest:
    """The manifest for `kubectl apply -f`.

    Raises:
        InputError: A setting is missing, or a path is none that a bucket can hold.
    """
    plan.needs("gke", "topology", "bucket", "image")
    plan.in_bucket("gke")
    part = read_slice(plan.topology)
    head = [f"# {plan.made_by('gke')}", "#", "# What the run reads goes into the bucket first:"]
    pack = [shlex.join(plan.pack_words())] if plan.packed else []
    head += [f"#   {command}" for command in [*pack, *uploads(plan)]]
    head += [f"# Node pools: {plan.slices} of {part.hosts} x {part.machine_type}, {part.shape}"]
    return JobManifest(
        "\n".join(head) + "\n" + to_yaml(_job_set(plan, part)), ".yaml", ("kubectl", "apply", "-f")
    )


def uploads(plan: LaunchPlan) -> list[str]:
    """The commands that put the experiment and its inputs where the run looks for them."""

    def copy(verb: str, path: str) -> str:
        return f"gcloud storage {verb} " + shlex.join([path, f"gs://{plan.bucket_name}/{path}"])

    folders = [f"{copy('rsync', path)} --recursive" for path in plan.inputs]
    return [copy("cp", str(plan.experiment)), *folders]


def _job_set(plan: LaunchPlan, part: Slice) -> dict[str, Any]:
    job = {
        "parallelism": part.hosts,
        "completions": part.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [EXIT_BAD_INPUT],
                    },
                }
            ]
        },
        "template": {
            "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}},
            "spec": _pod(plan, part),
        },
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": plan.name,
            # A slice is a node pool; no job gets half of one.
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": plan.restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": plan.slices, "template": {"spec": job}}
            ],
        },
    }


def _pod(plan: LaunchPlan, part: Slice) -> dict[str, Any]:
    selector = {
        "cloud.google.com/gke-tpu-accelerator": part.family.label,
        "cloud.google.com/gke-tpu-topology": part.shape,
    }
    tolerations = []
    if plan.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        tolerations = [
            {
                "key": "cloud.google.com/gke-spot",
                "operator": "Equal",
                "value": "true",
                "effect": "NoSchedule",
            }
        ]
    variables = plan.variables()
    if plan.slices * part.hosts > 1:
        variables = {"IREC_DISTRIBUTED": "auto", **variables}
    container = {
        "name": CONTAINER,
        "image": plan.image,
        # The words themselves, without a shell: SIGTERM reaches Python. A JobSet removes the pods
        # of an attempt before the next one, so that a lock they left is taken over.
        "command": [_unexpanded(word) for word in plan.words(alone=True)],
        "workingDir": MOUNT,
        "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
        "env": [{"name": key, "value": _unexpanded(word)} for key, word in variables.items()],
        "ports": [{"containerPort": port} for port in _PORTS],
        "resources": {
            "requests": {"google.com/tpu": part.host_chips},
            "limits": {"google.com/tpu": part.host_chips},
        },
        "volumeMounts": [{"name": "bucket", "mountPath": MOUNT}],
    }
    return {
        "serviceAccountName": SERVICE_ACCOUNT,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": plan.grace,
        "nodeSelector": selector,
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [{key: value for key, value in container.items() if value}],
        "volumes": [
            {
                "name": "bucket",
                "csi": {
                    "driver": "gcsfuse.csi.storage.gke.io",
                    "volumeAttributes": {
                        "bucketName": plan.bucket_name,
                        "mountOptions": MOUNT_OPTIONS,
                    },
                },
            }
        ],
    }


def _unexpanded(word: str) -> str:
    """A word of `command` or a value of `env`, in which Kubernetes expands `$(NAME)`.

    It reads each `$$` as one dollar, wherever it is, so all dollars are doubled.
    """
    return word.replace("$", "$$")
