# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is, in plain Python over syscalls/.

spec: what was asked for.  plan: what will be done, as data.  launch: the parent's story.  stages: the child's.
gate: what the kernel says is in force.  supervise: until the end.  result: what happened.
"""
