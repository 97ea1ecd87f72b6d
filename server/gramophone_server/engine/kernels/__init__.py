"""Fast forms of what the network and the losses compute; each is tested against the plain form in float64."""
