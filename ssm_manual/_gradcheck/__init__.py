"""The parts of `ssm_manual.gradcheck`: differences, contract, vjp, adjoint, report."""
