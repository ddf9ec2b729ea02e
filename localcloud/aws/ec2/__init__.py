"""EC2: moto keeps what there is, this package decides what may be asked and drives the machines."""
