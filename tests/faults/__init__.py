"""Faults put into runs over real modules: killed, out of space or memory, refused by the system, overtaken by others.

After each of them every path holds its original bytes or the verified ones, and the next run finishes the job.
"""
