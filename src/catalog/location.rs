//! Locations that name a version: `path#version=3`, `path#branch=dev`, `path#tag=v1`, `path#snapshot=ID`; or the dimension
//! along which files are put together: `dir/*.nc#along=time`.

use crate::format::Reference;

/// What in a location is followed by the number or the name of a version.
pub const VERSION: &str = "#version=";

/// What makes a location a pattern, which means several files.
pub const SPECIAL: [char; 3] = ['*', '?', '['];

type Names = fn(String) -> Reference;

/// What stands before the name of a version, and what the name is then one of.
const KINDS: [(&str, Names); 4] = [
    (VERSION, Reference::Named),
    ("#branch=", Reference::Branch),
    ("#tag=", Reference::Tag),
    ("#snapshot=", Reference::Snapshot),
];

/// What stands before the name of a dimension.
const ALONG: &str = "#along=";

/// The dimension that the end of a location names, which [`split`] has found.
#[must_use]
pub fn along(end: &str) -> Option<&str> {
    end.strip_prefix(ALONG)
}

/// A location without the version or dimension that it names, and what is left of it, from `#` on; that is empty where it
/// names none.
#[must_use]
pub fn split(location: &str) -> (&str, &str) {
    let kinds = KINDS.iter().map(|(kind, _)| *kind).chain([ALONG]);
    let at = kinds.filter_map(|kind| location.rfind(kind));
    at.max()
        .and_then(|at| location.split_at_checked(at))
        .unwrap_or((location, ""))
}

/// The version that the end of a location names, which [`split`] has found.
#[must_use]
pub fn reference(end: &str) -> Option<Reference> {
    let mut kinds = KINDS.iter();
    kinds.find_map(|(kind, named)| Some(named(end.strip_prefix(kind)?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_locations() {
        let name = || "v#1".to_owned();
        for (location, expected) in [
            ("a/b.zarr", ("a/b.zarr", None)),
            ("a#b.zarr", ("a#b.zarr", None)),
            (
                "a#b.zarr#version=3",
                ("a#b.zarr", Some(Reference::Named("3".to_owned()))),
            ),
            ("a#branch=v#1", ("a", Some(Reference::Branch(name())))),
            (
                "s3://b/a#tag=v#1",
                ("s3://b/a", Some(Reference::Tag(name()))),
            ),
            ("a#snapshot=v#1", ("a", Some(Reference::Snapshot(name())))),
        ] {
            let (base, rest) = split(location);
            assert_eq!((base, reference(rest)), expected, "{location}");
            assert_eq!(format!("{base}{rest}"), location);
            assert_eq!(along(rest), None);
        }
        let (base, rest) = split("a/*.nc#along=time");
        assert_eq!((base, along(rest)), ("a/*.nc", Some("time")));
    }
}
