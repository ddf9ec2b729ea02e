"""EC2: moto stores the objects; this package checks requests and controls the machines."""
