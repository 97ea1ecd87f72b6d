"""Optimizers over a batch of canvases whose pixels stay in the displayable box, 0 to 1.

torch.optim.LBFGS would couple the canvases of a batch through its dot products and step lengths; these keep every
canvas to itself. A step is one gradient evaluation, and nothing here makes the host wait for the device.
"""
