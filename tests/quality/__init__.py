"""How good labels become, on stores that have masks: hours, and no test of every change."""
