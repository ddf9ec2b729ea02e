"""The clouds on this machine: AWS, Cloudflare and Joyent/Triton APIs, DNS, and machines that really boot."""
