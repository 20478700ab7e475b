"""The fields of KubeRay's RayCluster and RayJob, and of the pods in them, that Cupel's files use: names, types, what must be there.

Written from KubeRay's definitions (ray-operator/apis/ray/v1, of which its CRDs are made) and from Kubernetes' reference. It knows less than they do:
a field that is new in our files has to be looked up and added here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


class Fields(BaseModel):
    """Exact types, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Profile(Fields):
    type: Literal["RuntimeDefault", "Unconfined"]


class Capabilities(Fields):
    add: list[str] = []
    drop: list[str] = []


class ContainerSecurity(Fields):
    allowPrivilegeEscalation: bool | None = None
    appArmorProfile: Profile | None = None
    capabilities: Capabilities | None = None


class PodSecurity(Fields):
    runAsNonRoot: bool | None = None
    runAsUser: int | None = None
    runAsGroup: int | None = None
    fsGroup: int | None = None
    seccompProfile: Profile | None = None


class Port(Fields):
    name: Annotated[Name, Field(max_length=15)]
    containerPort: Annotated[int, Field(ge=1, le=65535)]


class Resources(Fields):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class VolumeMount(Fields):
    name: Name
    mountPath: str


class Container(Fields):
    name: Name
    image: str
    securityContext: ContainerSecurity | None = None
    ports: list[Port] = []
    resources: Resources = Resources()
    volumeMounts: list[VolumeMount] = []


class Claim(Fields):
    claimName: Name


class Volume(Fields):
    name: Name
    persistentVolumeClaim: Claim


class Toleration(Fields):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Fields):
    automountServiceAccountToken: bool | None = None
    restartPolicy: Literal["Always", "OnFailure", "Never"] | None = None
    securityContext: PodSecurity | None = None
    tolerations: list[Toleration] = []
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] = []


class PodTemplate(Fields):
    spec: PodSpec


class Group(Fields):
    labels: dict[str, LabelValue]
    rayStartParams: dict[str, str]
    template: PodTemplate


class WorkerGroup(Group):
    groupName: Name
    replicas: Annotated[int, Field(ge=0, lt=2**31)]
    minReplicas: Annotated[int, Field(ge=0, lt=2**31)]
    maxReplicas: Annotated[int, Field(ge=0, lt=2**31)]


class AutoscalerOptions(Fields):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int
    securityContext: ContainerSecurity


class ClusterSpec(Fields):
    rayVersion: str
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: Group
    workerGroupSpecs: list[WorkerGroup]


class JobSpec(Fields):
    entrypoint: str
    runtimeEnvYAML: str
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]
    backoffLimit: Annotated[int, Field(ge=0)]
    submitterPodTemplate: PodTemplate
    rayClusterSpec: ClusterSpec


class Metadata(Fields):
    name: Name


class RayCluster(Fields):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Fields):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec
