"""How fast feet go in the world, as a function of the numbers of frames that can be differentiated.

Of points l_k seen from below the root along its heading, and v, w of `motion_form` (1), in the frame of the heading

    u_tk = v_t + (Y(w_t/r) l_t+1,k - l_t,k) r                                                           (1)

is the velocity of foot k, as Y(-θ_t) (x_t+1 - x_t + …) has it. Feet hang on chains of joints, so small errors of many
rotations add up there; that they stand still is what eyes look for.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.modalities.motion_form import HUMAN_REACH, ROOT, Form

LEAST = 1e-8  # squared, of a column that is made a unit vector


class Feet(nn.Module):
    """Velocities of a form's feet, of states (b, c, t): (b, 3, k, t - 1), in metres per second of a body of human
    size."""

    mean: Tensor
    scale: Tensor
    channels: Tensor
    offsets: Tensor
    holders: Tensor
    tips: Tensor

    def __init__(self, form: Form) -> None:
        super().__init__()
        skeleton, count = form.skeleton, len(form.skeleton)
        joints = sorted({j for foot in form.feet for j in skeleton.chain(skeleton.holder(foot))})
        depths = [len(skeleton.chain(j)) for j in joints]
        joints = [j for _, j in sorted(zip(depths, joints, strict=True))]
        at = {j: i for i, j in enumerate(joints)}
        self.metre, self.rate = HUMAN_REACH / max(skeleton.reach, 1e-9), form.rate
        # joints of one depth are turned at once: where their rotations begin and end, and which of the depth above
        # holds each
        self.levels: list[tuple[int, int]] = []
        for depth in range(2, max(depths) + 1):
            own = [j for j in joints if len(skeleton.chain(j)) == depth]
            start = sum(d < depth - 1 for d in depths)
            self._keep(
                f"above{len(self.levels)}", torch.tensor([at[skeleton.parents[j]] - start for j in own])
            )
            self.levels.append((at[own[0]], at[own[-1]] + 1))
        channels = [*range(ROOT), *(ROOT + 6 * j + k for j in joints for k in range(6))]
        tips = [skeleton.ends[f - count][1] if f >= count else (0.0, 0.0, 0.0) for f in form.feet]
        self._keep("channels", torch.tensor(channels))
        self._keep("mean", torch.tensor(form.mean)[channels, None, None])
        self._keep("scale", torch.tensor(form.scale)[channels, None, None])
        self._keep("offsets", _vectors([skeleton.offsets[j] for j in joints]) * self.metre)
        self._keep("holders", torch.tensor([at[skeleton.holder(foot)] for foot in form.feet]))
        self._keep("tips", _vectors(tips) * self.metre)

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b 3 k t-1"]:
        if self.mean.device != x.device:
            self.to(x.device)
        plain = x.float().movedim(1, 0).index_select(0, self.channels) * self.scale + self.mean
        root, columns = plain[:ROOT], plain[ROOT:].unflatten(0, (-1, 2, 3))
        vx, height, vz, spin = root[0], root[2] * self.metre, root[1], root[3, :, :-1] / self.rate
        place = self._places(_turns(columns), height)
        now, then = place[..., :-1], place[..., 1:]
        c, s = spin.cos(), spin.sin()
        turned = torch.stack([c * then[0] + s * then[2], then[1], c * then[2] - s * then[0]])
        along = torch.stack([vx, torch.zeros_like(vx), vz])[:, None, :, :-1] * self.metre
        return ((turned - now) * self.rate + along).permute(2, 0, 1, 3)

    def _places(self, turns: Float[Tensor, "3 3 j b t"], height: Float[Tensor, "b t"]) -> Tensor:
        """Where feet are, (3, k, b, t), of rotations in the parents' frames."""
        zero = torch.zeros_like(height)
        rotation, place = turns[:, :, :1], torch.stack([zero, height, zero])[:, None]
        rotations, places = [rotation], [place]
        for k, (begin, end) in enumerate(self.levels):
            above = getattr(self, f"above{k}")
            rotation, place = rotation.index_select(2, above), place.index_select(1, above)
            place = place + (rotation * self.offsets[:, begin:end]).sum(1)
            rotation = (rotation[:, :, None] * turns[None, :, :, begin:end]).sum(1)
            rotations.append(rotation)
            places.append(place)
        held = torch.cat(rotations, 2).index_select(2, self.holders)
        return torch.cat(places, 1).index_select(1, self.holders) + (held * self.tips).sum(1)


def _vectors(rows: list[tuple[float, float, float]]) -> Float[Tensor, "3 j 1 1"]:
    return torch.tensor(rows, dtype=torch.float32).T[:, :, None, None]


def _turns(columns: Float[Tensor, "j 2 3 b t"]) -> Float[Tensor, "3 3 j b t"]:
    """`motion_form.orthonormal` of components that come first."""
    a, b = columns[:, 0].movedim(1, 0), columns[:, 1].movedim(1, 0)
    a = a * a.square().sum(0).clamp_min(LEAST).rsqrt()
    b = b - (a * b).sum(0) * a
    b = b * b.square().sum(0).clamp_min(LEAST).rsqrt()
    return torch.stack([a, b, torch.linalg.cross(a, b, dim=0)], 1)
