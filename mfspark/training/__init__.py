"""The loops: transport brings the fixed side, kernels solve, history is kept."""
