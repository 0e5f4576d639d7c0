"""The data audit and the exploratory report: what a data set holds, and what is wrong with it."""

from pipelines.audit.run import AuditOptions, AuditResult, audit, audit_shard, inspect, summary

__all__ = ["AuditOptions", "AuditResult", "audit", "audit_shard", "inspect", "summary"]
