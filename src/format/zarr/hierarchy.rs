//! Hierarchies: from the metadata documents of a store to groups.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::attributes;
use super::json::{Json, NULL};
use super::site::{Places, Site};
use super::{v2, v3};
use crate::array::{Attributes, Dimension, Group, Unreadable, Variable};
use crate::error::{Error, Result, Within};
use crate::store::Store;

/// Groups within groups: more are a cycle of links.
const DEEPEST: usize = 32;

/// Directories looked at: more are a cycle of links, or no hierarchy.
const MOST_NODES: usize = 20_000;
/// Directories that are looked into at the same time.
const PROBES: usize = 32;

/// Metadata documents are smaller than this.
pub(super) const LARGEST_DOCUMENT: u64 = 16 << 20;

/// The names of metadata documents: Zarr v3, and the four of Zarr v2.
pub(super) const V3: &str = "zarr.json";
pub(super) const CONSOLIDATED: &str = ".zmetadata";
pub(super) const ARRAY: &str = ".zarray";
pub(super) const GROUP: &str = ".zgroup";
pub(super) const ATTRIBUTES: &str = ".zattrs";

/// Documents that make a directory a member of a hierarchy.
pub(super) const MARKS: [&str; 4] = [V3, GROUP, ARRAY, CONSOLIDATED];

#[derive(Clone, Copy, Debug)]
enum Version {
    V2,
    V3,
}

/// A member of a hierarchy.
#[derive(Debug)]
enum Node {
    Group(Attributes),
    Array(Box<Variable>),
}

/// Members with their paths.
type Members = Vec<(String, Result<Node>)>;

/// What the metadata in a directory describes.
#[derive(Debug)]
enum Found {
    /// This member alone.
    One(Node),
    /// A group with all that is below it.
    All(Members),
}

/// Reads the hierarchy at the location of the store.
pub(super) async fn read(store: &Store) -> Result<Group> {
    for version in [Version::V3, Version::V2] {
        if let Some(members) = walk(store, version).await? {
            return assemble(members);
        }
    }
    Err(Error::NotFound(format!(
        "{} holds no Zarr metadata",
        store.location()
    )))
}

/// The hierarchy that a document with those of all members describes.
pub(super) fn consolidated(store: &Store, document: &Json) -> Result<Group> {
    let damaged = || Error::Corrupt("the consolidated metadata has no root".into());
    if let Some(metadata) = consolidated_v3(document) {
        let node = v3_node(Site::of(store, ""), document)?;
        return assemble(members_v3(store, "", node, metadata));
    }
    assemble(members_v2(store, document).ok_or_else(damaged)?)
}

/// The hierarchy of Zarr v3 that the documents of all members describe, by their paths; `places` knows where the objects of
/// arrays are.
///
/// # Errors
/// `Corrupt` when there is no root, or it is damaged.
pub(in crate::format) fn given(
    store: &Store,
    documents: &[(String, bytes::Bytes)],
    places: &dyn Places,
) -> Result<Group> {
    let mut members = Members::new();
    for (path, document) in documents {
        let node = check_path(path).and_then(|()| {
            let document = Json::parse(document).within(|| V3)?;
            let site = Site {
                store,
                directory: path,
                places: Some(places),
            };
            v3_node(site, &document)
        });
        members.push((path.clone(), node));
    }
    if members.is_empty() {
        return Err(Error::Corrupt("there is no root group".into()));
    }
    assemble(members)
}

/// Collects the members from the root down; groups are listed, arrays never are. `None` when there is no root.
async fn walk(store: &Store, version: Version) -> Result<Option<Members>> {
    let mut members = Members::new();
    let mut paths = vec![String::new()];
    let mut seen = 0;
    let mut listed = false;
    while !paths.is_empty() {
        seen += paths.len();
        if seen > MOST_NODES {
            return Err(Error::Exhausted(format!(
                "the hierarchy has more than {MOST_NODES} directories"
            )));
        }
        // All of one level, as requests may take long.
        let probes: Vec<_> = paths
            .drain(..)
            .map(|path| async move {
                let found = probe(store, version, &path).await;
                (path, found)
            })
            .collect();
        let mut probes = stream::iter(probes).buffered(PROBES);
        while let Some((path, found)) = probes.next().await {
            let node = match settled(found)? {
                Ok(Some(Found::One(node))) => Ok(node),
                Ok(Some(Found::All(below))) => {
                    members.extend(below);
                    continue;
                }
                Ok(None) if path.is_empty() => return Ok(None),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            if matches!(node, Ok(Node::Group(_))) {
                listed = true;
                let entries = store.list(&path).await?.into_iter();
                paths.extend(
                    entries
                        .filter(|entry| entry.is_directory)
                        .map(|entry| entry.key),
                );
            }
            members.push((path, node));
        }
    }
    // A change of several arrays puts their metadata in one document first: what was read one after the other before that
    // may be of two versions.
    if listed && is_consolidated(store, version).await? {
        return Box::pin(walk(store, version)).await;
    }
    Ok(Some(members))
}

/// Whether the metadata of all members is in one document.
async fn is_consolidated(store: &Store, version: Version) -> Result<bool> {
    Ok(match version {
        Version::V2 => settled(document(store, "", CONSOLIDATED).await)?
            .is_ok_and(|found| found.is_some_and(|found| members_v2(store, &found).is_some())),
        Version::V3 => settled(document(store, "", V3).await)?
            .is_ok_and(|found| found.is_some_and(|found| consolidated_v3(&found).is_some())),
    })
}

/// What the metadata in the directory at `path` describes; `None` when there is none.
async fn probe(store: &Store, version: Version, path: &str) -> Result<Option<Found>> {
    let found = match version {
        Version::V2 => probe_v2(store, path).await?,
        Version::V3 => match document(store, path, V3).await? {
            Some(document) => {
                let node = v3_node(Site::of(store, path), &document)?;
                Some(match (node, consolidated_v3(&document)) {
                    (node @ Node::Group(_), Some(metadata)) => {
                        Found::All(members_v3(store, path, node, metadata))
                    }
                    (node, _) => Found::One(node),
                })
            }
            None => None,
        },
    };
    if found.is_some() {
        check_path(path)?;
    }
    Ok(found)
}

/// A group at `base` and what its consolidated metadata says is below it.
fn members_v3(store: &Store, base: &str, group: Node, metadata: &Json) -> Members {
    let mut members = vec![(base.to_owned(), Ok(group))];
    for (path, document) in metadata.object() {
        let path = key(base, path);
        let node = check_path(&path).and_then(|()| v3_node(Site::of(store, &path), document));
        members.push((path, node));
    }
    members
}

/// The documents below a group, if its own one holds them.
pub(super) fn consolidated_v3(document: &Json) -> Option<&Json> {
    let consolidated = document.get("consolidated_metadata");
    let metadata = consolidated.get("metadata");
    (consolidated.get("kind").text() == Some("inline")
        && matches!(metadata, Json::Object(_))
        && metadata
            .object()
            .iter()
            .all(|(_, document)| matches!(document, Json::Object(_))))
    .then_some(metadata)
}

fn v3_node(site: Site<'_>, document: &Json) -> Result<Node> {
    match document.get("node_type").text() {
        Some("array") => v3::array(site, document).map(|variable| Node::Array(Box::new(variable))),
        Some("group") => {
            v3::check(document)?;
            Ok(Node::Group(attributes::of_group(
                document.get("attributes"),
            )))
        }
        _ => Err(Error::Corrupt(format!(
            "zarr.json has the node_type {}",
            document.get("node_type")
        ))),
    }
}

/// The members that a consolidated document names; `None` when it is none, or has no root.
fn members_v2(store: &Store, document: &Json) -> Option<Members> {
    let metadata = document.get("metadata").object();
    let documents: HashMap<&str, &Json> = metadata
        .iter()
        .map(|(key, document)| (key.as_str(), document))
        .collect();
    documents.get(GROUP)?;
    let mut members = Members::new();
    for (place, document) in metadata {
        let (path, name) = place.rsplit_once('/').unwrap_or(("", place));
        if name != ARRAY && name != GROUP {
            continue;
        }
        let attributes = documents.get(key(path, ATTRIBUTES).as_str());
        let attributes = attributes.copied().unwrap_or(&NULL);
        let node = check_path(path).and_then(|()| {
            if name == ARRAY {
                v2_array(store, path, document, attributes)
            } else {
                v2_group(document, attributes)
            }
        });
        members.push((path.to_owned(), node));
    }
    Some(members)
}

async fn probe_v2(store: &Store, path: &str) -> Result<Option<Found>> {
    if path.is_empty() {
        // A consolidated document that is damaged is worth nothing, but the others may be well.
        let consolidated = settled(document(store, path, CONSOLIDATED).await)?;
        if let Ok(Some(document)) = consolidated
            && let Some(members) = members_v2(store, &document)
        {
            return Ok(Some(Found::All(members)));
        }
    }
    let array = document(store, path, ARRAY).await?;
    let group = match array {
        Some(_) => None,
        None => document(store, path, GROUP).await?,
    };
    if array.is_none() && group.is_none() {
        return Ok(None);
    }
    let attributes = document(store, path, ATTRIBUTES).await?;
    let attributes = attributes.as_ref().unwrap_or(&NULL);
    let node = match (array, group) {
        (Some(array), _) => v2_array(store, path, &array, attributes),
        (None, group) => v2_group(group.as_ref().unwrap_or(&NULL), attributes),
    };
    node.map(|node| Some(Found::One(node)))
}

fn v2_array(store: &Store, directory: &str, array: &Json, attributes: &Json) -> Result<Node> {
    v2::array(Site::of(store, directory), array, attributes)
        .map(|variable| Node::Array(Box::new(variable)))
}

fn v2_group(group: &Json, attributes: &Json) -> Result<Node> {
    match group.get("zarr_format").count() {
        Some(2) => Ok(Node::Group(attributes::of_group(attributes))),
        _ => Err(Error::Corrupt(format!(
            ".zgroup has the zarr_format {}",
            group.get("zarr_format")
        ))),
    }
}

/// A metadata document of the member at `path`; `None` when there is none.
async fn document(store: &Store, path: &str, name: &str) -> Result<Option<Json>> {
    let key = key(path, name);
    let Some(bytes) = store.get_small(&key, LARGEST_DOCUMENT).await? else {
        return Ok(None);
    };
    match Json::parse(&bytes).within(|| name)? {
        document @ Json::Object(_) => Ok(Some(document)),
        _ => Err(Error::Corrupt(format!("{name} holds no JSON object"))),
    }
}

/// The key of `name` below `path`, which may be empty.
pub(super) fn key(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// Tells the failures of the storage, which end everything, from those of one member.
fn settled<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ Error::Io { .. }) => Err(error),
        other => Ok(other),
    }
}

/// Checks that the path of a member stays below the location.
fn check_path(path: &str) -> Result<()> {
    let parts = path.split('/');
    if parts.clone().count() > DEEPEST {
        return Err(Error::Unsupported(format!(
            "groups nested deeper than {DEEPEST} levels are not supported"
        )));
    }
    let valid =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if path.is_empty() || parts.into_iter().all(valid) {
        Ok(())
    } else {
        Err(Error::Corrupt(format!("{path:?} is no valid path")))
    }
}

/// Makes groups of members; groups that nothing names are there if something is in them.
fn assemble(members: Members) -> Result<Group> {
    let mut groups = Groups::default();
    groups.at("");
    for (path, node) in members {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        match node {
            Err(error) if path.is_empty() => return Err(error),
            Err(error) => {
                // A path that is too long or invalid is no place for groups.
                let (parent, name) = match check_path(&path) {
                    Ok(()) => (parent, name),
                    Err(_) => ("", path.as_str()),
                };
                groups.at(parent).unreadable.push(Unreadable {
                    name: name.into(),
                    reason: error.within(&path).to_string(),
                });
            }
            Ok(Node::Group(attributes)) => groups.at(&path).attributes = attributes,
            Ok(Node::Array(variable)) => groups.at(parent).variables.push(Arc::new(*variable)),
        }
    }
    Ok(groups.nest())
}

/// Groups by their paths, and the paths with parents before children.
#[derive(Debug, Default)]
struct Groups {
    groups: HashMap<String, Group>,
    paths: Vec<String>,
}

impl Groups {
    /// The group at `path`, which is made if need be, with all that it is in.
    fn at(&mut self, path: &str) -> &mut Group {
        if !self.groups.contains_key(path) {
            if let Some((parent, _)) = path.rsplit_once('/') {
                self.at(parent);
            }
            self.paths.push(path.into());
        }
        self.groups.entry(path.into()).or_insert_with(|| Group {
            path: path.into(),
            ..Group::default()
        })
    }

    /// The root, with all groups in their places.
    fn nest(mut self) -> Group {
        let mut root = Group::default();
        while let Some(path) = self.paths.pop() {
            let Some(mut group) = self.groups.remove(&path) else {
                continue;
            };
            group.dimensions = dimensions(&group.variables);
            group.groups.reverse();
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            match self.groups.get_mut(parent) {
                Some(parent) => parent.groups.push(group),
                None => root = group,
            }
        }
        root
    }
}

/// The dimensions of variables, each of a name and length once.
fn dimensions(variables: &[Arc<Variable>]) -> Vec<Dimension> {
    let mut seen = HashSet::new();
    variables
        .iter()
        .flat_map(|variable| variable.dimensions.iter().zip(variable.shape()))
        .filter(|dimension| seen.insert(*dimension))
        .map(|(name, length)| Dimension {
            name: name.clone(),
            length: *length,
            unlimited: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    const V2_ARRAY: &str = r#"{"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<i2", "order": "C",
        "fill_value": 0, "filters": null, "compressor": null}"#;
    const V2_GROUP: &str = r#"{"zarr_format": 2}"#;
    const V3_GROUP: &str =
        r#"{"zarr_format": 3, "node_type": "group", "attributes": {"title": "x"}}"#;
    const V3_ARRAY: &str = r#"{"zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "int16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}, "chunk_key_encoding": "default",
        "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "dimension_names": ["x"]}"#;

    async fn open(objects: &[(&str, &str)]) -> Result<Group> {
        let memory = InMemory::new();
        for (key, text) in objects {
            let path = Path::from(format!("cube.zarr/{key}"));
            memory
                .put(&path, text.as_bytes().to_vec().into())
                .await
                .unwrap();
        }
        let store = Store::with_objects(
            "memory:///cube.zarr",
            Arc::new(memory),
            Path::from("cube.zarr"),
        );
        read(&store).await
    }

    /// The paths of all variables, then those of all that is unreadable.
    fn paths(root: &Group) -> (Vec<&str>, Vec<&str>) {
        let groups = root.walk();
        let variables = groups.iter().flat_map(|group| &group.variables);
        let unreadable = groups.iter().flat_map(|group| &group.unreadable);
        (
            variables.map(|variable| variable.path.as_str()).collect(),
            unreadable.map(|member| member.name.as_str()).collect(),
        )
    }

    #[tokio::test]
    async fn a_bad_member_does_not_take_the_others_down() {
        let root = open(&[
            ("zarr.json", V3_GROUP),
            ("ok/zarr.json", V3_ARRAY),
            ("torn/zarr.json", "{\"zarr_format\""),
            ("odd/zarr.json", &V3_ARRAY.replace("int16", "int17")),
            ("a/zarr.json", V3_GROUP),
            ("a/b/zarr.json", V3_GROUP),
            ("a/b/deep/zarr.json", V3_ARRAY),
            ("stray/file", ""),
        ])
        .await
        .unwrap();
        assert_eq!(paths(&root), (vec!["ok", "a/b/deep"], vec!["odd", "torn"]));
        assert_eq!(root.attributes.text("title"), Some("x"));
        let x = Dimension {
            name: "x".into(),
            length: 4,
            unlimited: false,
        };
        assert_eq!(root.dimensions, [x]);
    }

    #[tokio::test]
    async fn consolidated_metadata_is_all_that_is_read() {
        let metadata = format!(
            r#"{{"zarr_consolidated_format": 1, "metadata": {{".zgroup": {V2_GROUP}, ".zattrs": {{"title": "x"}},
                "a/b/v/.zarray": {V2_ARRAY}, "a/b/v/.zattrs": {{"_ARRAY_DIMENSIONS": ["x"]}}, "v/.zarray": {V2_ARRAY}}}}}"#
        );
        let root = open(&[(".zmetadata", &metadata), ("later/.zarray", V2_ARRAY)])
            .await
            .unwrap();
        assert_eq!(paths(&root), (vec!["v", "a/b/v"], vec![]));
        assert_eq!(root.attributes.text("title"), Some("x"));

        let nested = format!(
            r#"{{"kind": "inline", "must_understand": false, "metadata": {{"b/v": {V3_ARRAY}}}}}"#
        );
        let inner = V3_GROUP.replace(
            "\"attributes\"",
            &format!("\"consolidated_metadata\": {nested}, \"attributes\""),
        );
        let root = open(&[("zarr.json", V3_GROUP), ("a/zarr.json", &inner)])
            .await
            .unwrap();
        assert_eq!(paths(&root), (vec!["a/b/v"], vec![]));
    }

    #[tokio::test]
    async fn consolidated_metadata_that_is_damaged_is_left_aside() {
        for metadata in ["{", "{}", r#"{"metadata": {}}"#] {
            let root = open(&[
                (".zmetadata", metadata),
                (".zgroup", V2_GROUP),
                ("v/.zarray", V2_ARRAY),
            ])
            .await
            .unwrap();
            assert_eq!(paths(&root), (vec!["v"], vec![]), "{metadata}");
        }
        for metadata in [
            "null",
            "1",
            r#"{"kind": "other"}"#,
            r#"{"kind": "inline", "metadata": {"v": 1}}"#,
        ] {
            let document = V3_GROUP.replace(
                "\"attributes\"",
                &format!("\"consolidated_metadata\": {metadata}, \"attributes\""),
            );
            let root = open(&[("zarr.json", &document), ("v/zarr.json", V3_ARRAY)])
                .await
                .unwrap();
            assert_eq!(paths(&root), (vec!["v"], vec![]), "{metadata}");
        }
    }

    #[tokio::test]
    async fn paths_stay_below_the_location() {
        let deep = vec!["g"; 1000].join("/");
        let outside = ["../v", "a/../../v", "/etc", "a//v", "v/", &deep];
        let metadata: Vec<_> = outside
            .iter()
            .map(|path| format!(r#""{path}/.zarray": {V2_ARRAY}"#))
            .collect();
        let metadata = format!(
            r#"{{"metadata": {{".zgroup": {V2_GROUP}, {}}}}}"#,
            metadata.join(",")
        );
        let root = open(&[(".zmetadata", &metadata)]).await.unwrap();
        assert_eq!(paths(&root), (vec![], outside.to_vec()));
        assert!(root.groups.is_empty());
    }

    #[tokio::test]
    async fn a_root_that_cannot_be_read_is_an_error() {
        assert!(matches!(open(&[]).await, Err(Error::NotFound(_))));
        assert!(matches!(
            open(&[("zarr.json", "{")]).await,
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(
            open(&[("zarr.json", "[]")]).await,
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(
            open(&[("zarr.json", &V3_ARRAY.replace("bytes", "zfp"))]).await,
            Err(Error::Unsupported(_))
        ));
        assert!(matches!(
            open(&[(".zgroup", "{\"zarr_format\": 1}")]).await,
            Err(Error::Corrupt(_))
        ));
        assert_eq!(
            paths(&open(&[(".zarray", V2_ARRAY)]).await.unwrap()).0,
            ["cube"]
        );
    }
}
