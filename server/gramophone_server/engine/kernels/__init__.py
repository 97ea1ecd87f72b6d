"""Fast implementations of the operations of the network and the losses; tested against plain ones in float64."""
