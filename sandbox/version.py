# SPDX-License-Identifier: Apache-2.0
"""Names the version of mrunc, for results, manual pages and releases."""

__version__ = "0.1.0"
