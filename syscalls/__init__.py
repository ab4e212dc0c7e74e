# SPDX-License-Identifier: Apache-2.0
"""The kernel interface.  The only room that knows ctypes; raises plain OSError; imports nothing of the other rooms."""
