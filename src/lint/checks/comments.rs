//! Comments for the linter: those it cannot understand, and files left alone.

use crate::lint::comments::What;
use crate::lint::context::{FileCx, Findings, finding};

/// `pint/comment`
pub(in crate::lint) fn bad(file: &FileCx<'_>, out: &mut Findings<'_>) {
    for comment in &file.comments {
        if let What::Bad { message, help } = &comment.what {
            let mut found = finding(format!("this comment has no effect: {message}"));
            found.span = Some(comment.span.clone());
            if let Some(help) = help {
                found = found.help(help);
            }
            out.file(file, None, found);
        }
    }
}

/// `ignore/file`
pub(in crate::lint) fn ignored(file: &FileCx<'_>, out: &mut Findings<'_>) {
    if let Some(comment) = file.comments.iter().find(|c| c.what == What::IgnoreFile) {
        let found = finding("nothing in this file is looked at, as this comment asks");
        out.file(file, None, found.at(comment.span.clone()));
    }
}
