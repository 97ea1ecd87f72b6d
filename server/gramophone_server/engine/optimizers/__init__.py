"""Optimizers for a batch of canvases, with pixels constrained to the displayable range of 0 to 1 (the box).

torch.optim.LBFGS would couple the canvases of a batch through its dot products and step lengths; these optimizers treat
each canvas independently. A step uses one gradient evaluation. On a GPU no step makes the host wait for the device.
"""
