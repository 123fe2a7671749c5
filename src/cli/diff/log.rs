//! Both packages on the requests of a payload log.

use serde_json::Value;

use super::{Answers, DiffArgs};
use crate::cli::log::Logged;
use crate::cli::{Failure, progress};
use crate::config::Settings;
use crate::model::Package;
use crate::scoring::difference::{self, Tolerances};
use crate::scoring::offline::Offline;
use crate::scoring::replay::{LogComparison, Replayed};

/// Runs each request of the log on both. What the old one refuses tells nothing about the new one.
pub(super) fn answers(
    args: &DiffArgs,
    (old, new): (&Package, &Package),
    logged: &Logged,
    settings: &Settings,
) -> Result<Answers, Failure> {
    let progress = progress::spinner();
    progress.set_message("loading");
    let was = Offline::choose(old, args.engine, settings)?;
    let is = Offline::choose(new, args.engine, settings)?;
    let (mut before, mut after) = (Replayed::new(old), Replayed::new(new));
    let mut refusal = None;
    logged.each(|file| {
        progress.set_message(format!("running {}", file.name));
        before.run(&was, file)?;
        if refusal.is_none() {
            refusal = after.run(&is, file).err().map(|error| error.to_string());
        }
        Ok(())
    })?;
    progress.finish_and_clear();
    let answer = |model: &Offline, replayed: &Replayed| {
        let outputs = replayed.joined().ok_or_else(|| {
            Failure::failed("the log holds no requests, or their answers have different shapes")
        })?;
        let answer = model.answer(outputs);
        let answer = answer.map_err(|refusal| Failure::failed(refusal.to_string()))?;
        Ok::<_, Failure>(difference::parse(&answer).unwrap_or(Value::Null))
    };
    let (outputs, log) = match &refusal {
        Some(_) => (Vec::new(), None),
        None => {
            let (reference, answered) = (answer(&was, &before)?, answer(&is, &after)?);
            let tolerances = Tolerances::new(&old.graph.signature, None);
            let outputs = difference::compare(&reference, &answered, &tolerances, true);
            (outputs, LogComparison::new(&before, &after))
        }
    };
    Ok(Answers {
        engines: [was.engine(), is.engine()],
        refusal,
        outputs,
        log,
    })
}
