"""The process between the front and a Ray cluster, and the actors that run workers on the cluster's nodes.

Ray ends a process that has lost its cluster, and its gRPC library clashes with grpcio. So the front never imports ray:
it starts this process, and starts it again when it has ended.
"""
