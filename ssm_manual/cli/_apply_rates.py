"""Which sampling rate ``ssm-manual apply`` works at, and with which discretisation of the model."""

from ssm_manual.tasks.recordings import RATE_TOLERANCE


def match(model, source, args):
    """The model for the recording's rate, that rate, and what the user should know about it."""

    def same(a, b):
        return abs(a / b - 1) <= RATE_TOLERANCE

    if None not in (args.rate, source.rate) and not same(args.rate, source.rate):
        raise ValueError(
            f"--rate is {args.rate:g}; {source.path} itself says {source.rate:g} samples per "
            "second: leave the option out"
        )
    rate = args.rate if source.rate is None else source.rate
    if args.resample and (rate is None or model.rate is None):
        who = source.path if rate is None else args.model
        advice = ": state it by --rate" if rate is None else ", so there is nothing to start from"
        raise ValueError(f"--resample dt: {who} does not tell its sampling rate{advice}")
    if model.rate is None:
        remark = "the model does not tell its sampling rate: taken as the recording's"
        return model, rate, None if rate is None else remark
    if rate is None:
        remark = f"{source.path} does not tell its sampling rate: taken as the model's"
        return model, model.rate, f"{remark}, {model.rate:g} Hz (--rate HZ states it)"
    if same(rate, model.rate):
        remark = "--resample dt was not needed: the rates agree" if args.resample else None
        return model, rate, remark
    if args.resample and model.continuous:
        return model.resampled(rate), rate, None
    advice = f"resample the recording to {model.rate:g} Hz first, for example with sox"
    if model.continuous:
        advice += ", or discretise the model for the recording's rate by --resample dt"
    elif model.deep:
        advice += " (a deep model serves no other rate)"
    else:
        advice += " (the model has discrete poles, which serve no other rate)"
    raise ValueError(
        f"{source.path} has {rate:g} samples per second, and the model was trained at "
        f"{model.rate:g}: {advice}"
    )
