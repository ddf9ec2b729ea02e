"""The stack's configuration under the name that it had before components/config/; new code imports from there."""

from components.config.errors import ConfigurationError as ConfigurationError
from components.config.models import CLOUDS as CLOUDS
from components.config.models import EC2_IMAGES as EC2_IMAGES
from components.config.models import KEYS as KEYS
from components.config.models import MACHINE_TOKEN as MACHINE_TOKEN
from components.config.models import PROTECTIONS as PROTECTIONS
from components.config.models import SITE_JOIN as SITE_JOIN
from components.config.models import DirectorySettings as DirectorySettings
from components.config.models import FleetSettings as FleetSettings
from components.config.models import HealthSettings as HealthSettings
from components.config.models import IncarnationSettings as IncarnationSettings
from components.config.models import JoyentSettings as JoyentSettings
from components.config.models import ServiceSettings as ServiceSettings
from components.config.models import Settings as Settings
from components.config.models import SiteSettings as SiteSettings
from components.config.models import SshSettings as SshSettings
from components.config.reader import read as read
from components.config.reader import read_whole as read_whole
