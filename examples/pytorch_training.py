"""One line swapped: the chunked engine inside a network of PyTorch.

    python examples/pytorch_training.py [--quick]

A network learns to answer with what it heard 200 samples ago. Its middle is first S4D as it is
written in PyTorch (Vandermonde kernel, FFT convolution, automatic gradients), then ours with the
same initial weights: the same loss, in less time. Needs PyTorch: pip install 'ssm_manual[torch]'.
"""

import argparse
import sys
import time

import numpy as np

try:
    import torch

    from ssm_manual.interop.torch import S4D
except ModuleNotFoundError:
    torch = None


def plain(layer):
    """S4D in PyTorch's own terms, with the weights of ``layer``, as a module."""

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, p in layer.named_parameters():
                self.register_parameter(name, torch.nn.Parameter(p.detach().clone()))

        def forward(self, u):
            L = u.shape[-1]
            A = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
            dtA = A * torch.exp(self.log_dt)[:, None]
            C = self.C * layer.B * (torch.exp(dtA) - 1) / A
            K = 2 * torch.einsum("hn,hnl->hl", C, torch.exp(dtA[..., None] * torch.arange(L))).real
            spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
            return torch.fft.irfft(spectrum, n=2 * L)[..., :L] + self.D[:, None] * u, None

    return Plain()


def train(layer, steps, batch, length, delay):
    """Losses, and seconds a step."""
    torch.manual_seed(0)
    H = layer.D.numel()
    encode, decode = torch.nn.Linear(1, H), torch.nn.Linear(H, 1)
    network = torch.nn.ModuleList([encode, layer, decode])
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0)
    losses, times = [], []
    for _ in range(steps):
        start = time.perf_counter()
        u = torch.randn(batch, length, 1)
        y, _ = layer(encode(u).transpose(1, 2))  # time is last in the layer
        answer = decode(torch.nn.functional.gelu(y.transpose(1, 2)))
        loss = (answer[:, delay:] - u[:, :-delay]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    return losses, min(times)


def main(argv=None):
    """Print both losses and times; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 small steps instead of 60")
    options = parser.parse_args(argv)
    if torch is None:
        print("This example needs PyTorch (pip install 'ssm_manual[torch]'): nothing to show.")
        return 0
    H, N, problem = (8, 8, (10, 4, 256, 20)) if options.quick else (64, 32, (60, 8, 2048, 200))
    layer = S4D(H, N, initial="lin", rng=np.random.default_rng(0))
    rival = plain(layer)
    theirs, their_time = train(rival, *problem)
    ours, our_time = train(layer, *problem)
    print(f"{H} channels, {N} modes, batch and length {problem[1:3]}")
    print("step    loss, plain    loss, ours")
    for step in sorted({0, len(ours) // 4, len(ours) // 2, len(ours) - 1}):
        print(f"{step:4d}{theirs[step]:15.5f}{ours[step]:14.5f}")
    print(f"a step takes {their_time * 1e3:.1f} ms plain, {our_time * 1e3:.1f} ms with ours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
