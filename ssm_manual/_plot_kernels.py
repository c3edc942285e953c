"""The panels of `ssm_manual.plots.kernel_methods`."""

import numpy as np


def seconds(ax, found, dtype, looks):
    """Time a sample over the length; writing the array is the floor."""
    lengths = np.array(found.lengths)
    for method, times in found.seconds[dtype].items():
        if method == "fill":
            ax.fill_between(lengths, 1e-6, 1e9 * np.array(times) / lengths, **looks["floor"])
        else:
            ax.plot(lengths, 1e9 * np.array(times) / lengths, **looks[method])
    every = [t / n for times in found.seconds[dtype].values() for t, n in zip(times, lengths)]
    ax.set(xscale="log", yscale="log", xlabel="length (samples)", ylabel="ns per sample")
    ax.set_xscale("log", base=2)
    ax.set_ylim(0.6e9 * min(every), 1.5e9 * max(every))
    ax.set_title(f"{dtype}: time of a call", loc="left")


def errors(ax, found, dtype, looks):
    """Error in units over t, on a scale that shows both a half and a billion."""
    t = np.array(found.t) + 1  # the first sample too has its place on a logarithmic axis
    for method, values in found.errors[dtype].items():
        values = np.maximum.accumulate(np.maximum(values, 0.3))
        ax.plot(t, values, **looks[method])
    ax.set(xscale="log", yscale="log", xlabel="t (samples)", ylabel="units of the precision")
    ax.set_title(f"{dtype}: largest error up to t", loc="left")
    ax.axhline(1, color="black", linewidth=0.5, linestyle=":")
