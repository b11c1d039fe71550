//! Recipe, plan, budgets and journal: data only.
