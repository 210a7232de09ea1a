//! Slices behind what is there: as many as make up a transaction, checked one behind the other, copied variable by variable.

use std::collections::HashMap;
use std::sync::Arc;

use super::check::{self, Verdict};
use super::copy::{Along, Copy, Failed};
use super::report::Phase;
use super::slice::Slice;
use super::target::Known;
use super::{Action, Ingest, Opened, SliceItem, SliceReport, attributes, axes, pick};
use crate::append::{Outcome, Transaction};
use crate::array::Variable;
use crate::error::{Error, Result};

impl Ingest<'_> {
    /// Appends slices to a target that is there, as many as fit it, but at least the first; `None` when somebody else was
    /// faster.
    pub(super) async fn extend(
        &mut self,
        group: &mut Vec<(&SliceItem, Opened)>,
    ) -> Result<Option<Vec<SliceReport>>> {
        loop {
            let clock = self.profile.start();
            let mut transaction = self.target.begin(self.options).await?;
            self.profile.end(Phase::Begin, clock);
            let (reports, known) = match self.extend_in(&mut transaction, group).await {
                Ok(done) => done,
                Err(failed) => {
                    transaction.abandon().await?;
                    match failed.slice {
                        // Those before it are appended; what is wrong with it is said when its turn comes.
                        Some(slice) if slice > 0 && slice < group.len() => {
                            group.truncate(slice);
                            continue;
                        }
                        _ => {}
                    }
                    let name = group.first().map_or("", |(item, _)| item.name());
                    return Err(failed.error.within(format!("slice {name}")));
                }
            };
            if reports
                .iter()
                .all(|report| report.action != Action::Appended)
            {
                let version = transaction.version();
                transaction.abandon().await?;
                self.known = Some((known, version));
                return Ok(Some(reports));
            }
            let clock = self.profile.start();
            let outcome = transaction.commit("append").await?;
            self.profile.end(Phase::Commit, clock);
            let Outcome::Committed { version } = outcome else {
                return Ok(None);
            };
            self.known = Some((known, version));
            let reports = reports.into_iter().map(|report| match report.action {
                Action::Appended => SliceReport { version, ..report },
                Action::Created | Action::Skipped => report,
            });
            return Ok(Some(reports.collect()));
        }
    }

    /// Writes slices; returns what became of each, which are less if one does not fit that is not the first.
    async fn extend_in(
        &mut self,
        transaction: &mut Transaction,
        group: &[(&SliceItem, Opened)],
    ) -> Result<(Vec<SliceReport>, Known), Failed> {
        let clock = self.profile.start();
        let append_dim = self.config.append_dim.clone();
        let mut known = self.known(transaction).await?;
        let before = known.length;
        let old = known.attributes.clone();
        // Those that are checked and fit, with the lengths that they add.
        let mut laid = Vec::with_capacity(group.len());
        let mut reports = Vec::with_capacity(group.len());
        for (item, opened) in group {
            let checked = self.check(transaction, item, opened, &mut known).await;
            match checked {
                Ok((own, report)) => {
                    laid.push((own, report.length, report.action));
                    reports.push(report);
                }
                Err(_) if !reports.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.profile.end(Phase::Check, clock);
        let clock = self.profile.start();
        let mut slices = Vec::with_capacity(laid.len());
        for (number, ((_, opened), (own, length, action))) in group.iter().zip(&laid).enumerate() {
            if *action == Action::Appended {
                slices.push((number, pick(opened, own.as_ref())?, *length));
            }
        }
        if !slices.is_empty() {
            let after = known.length;
            for variable in known.growing(&append_dim) {
                let copied = self
                    .copy(transaction, variable, (before, after), &slices)
                    .await;
                let filled = copied.map_err(|failed| Failed {
                    slice: failed
                        .slice
                        .and_then(|slice| slices.get(slice).map(|(number, ..)| *number)),
                    ..failed
                })?;
                for slice in filled {
                    let number = slices.get(slice).map(|(number, ..)| *number);
                    if let Some(report) = number.and_then(|number| reports.get_mut(number)) {
                        report.filled.push(variable.name.clone());
                    }
                }
            }
            transaction.resize("", &append_dim, after)?;
            if known.attributes != old {
                transaction.set_attributes("", &known.attributes)?;
            }
        }
        self.profile.end(Phase::Copy, clock);
        Ok((reports, known))
    }

    /// Checks a slice against what is known, which takes it in; returns it laid out, if it has to be, and what becomes of it.
    async fn check(
        &self,
        transaction: &Transaction,
        item: &SliceItem,
        opened: &Opened,
        known: &mut Known,
    ) -> Result<(Option<Slice>, SliceReport)> {
        let laid = self.lay_out(opened, Some(known))?;
        let slice = pick(opened, laid.as_ref())?;
        let before = known.length;
        let addition = match check::against(slice, known, &self.config, &self.decode).await? {
            Verdict::Fits(addition) => addition,
            Verdict::Present => {
                let addition = check::alone(slice, &self.config).await?;
                let report =
                    self.report(item, Action::Skipped, before, &addition, Vec::new(), None);
                return Ok((laid, report));
            }
        };
        let append_dim = &self.config.append_dim;
        if before.checked_add(addition.length).is_none() {
            return Err(Error::Exhausted(format!("{append_dim} would be too long")));
        }
        let axes = match attributes::has_expressions(&self.config) {
            true => axes(&self.reread(transaction).await?, Some(slice), append_dim).await?,
            false => HashMap::new(),
        };
        known.attributes = attributes::merged(
            self.session,
            Some(&known.attributes),
            &slice.attributes,
            &self.config,
            &axes,
        )
        .await?;
        let report = self.report(item, Action::Appended, before, &addition, Vec::new(), None);
        known.grow(addition.length, addition.labels.as_ref());
        Ok((laid, report))
    }

    /// Copies a variable of slices behind the index `bounds.0`; returns which of them do not have it.
    async fn copy(
        &self,
        transaction: &mut Transaction,
        variable: &Arc<Variable>,
        bounds: (u64, u64),
        slices: &[(usize, &Slice, u64)],
    ) -> Result<Vec<usize>, Failed> {
        let mut dimensions = variable.dimensions.iter();
        let axis = dimensions.position(|name| *name == self.config.append_dim);
        let along = axis.map(|axis| Along {
            axis,
            before: bounds.0,
            after: bounds.1,
        });
        let mut copy = Copy::new(variable, along, &self.decode)?;
        let mut filled = Vec::new();
        for (number, (_, slice, length)) in slices.iter().enumerate() {
            let added = (|| {
                let source = match self.config.excludes(&variable.name) {
                    true => None,
                    false => slice.variable(&variable.name)?,
                };
                if source.is_none() {
                    filled.push(number);
                }
                copy.add(source, *length, &self.config, &self.decode)
            })();
            added.map_err(|error| Failed {
                slice: Some(number),
                error,
            })?;
        }
        copy.run(transaction).await?;
        Ok(filled)
    }
}
