//! A local supercluster of real nats-servers with faults on demand.
