"""Run commands on machines: by SSH, or on EC2 by Systems Manager (SSM)."""
