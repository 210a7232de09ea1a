//! The metadata documents of a hierarchy, all at once: what a change has to keep in step.

use std::collections::BTreeMap;

use super::Zarr;
use super::hierarchy::{self, ARRAY, ATTRIBUTES, CONSOLIDATED, GROUP, LARGEST_DOCUMENT, V3};
use super::json::Json;
use crate::array::{Dataset, Group};
use crate::error::{Error, Result, Within};
use crate::format::Format;
use crate::store::Store;
use crate::store::write::{Expect, Object, Version, write_id};

/// The documents of a hierarchy.
#[derive(Debug)]
pub(super) enum Metadata {
    /// One array, whose own document is all there is.
    Single { key: String, version: Version },
    /// Documents of all members in one, which is what readers look at.
    Consolidated {
        key: String,
        root: Json,
        version: Option<Version>,
    },
}

/// Documents by their keys.
pub(super) type Documents = BTreeMap<String, Json>;

/// The hierarchy at the location of a store, the metadata by which readers see it, and all documents of its members.
pub(super) async fn hierarchy_documents(store: &Store) -> Result<(Dataset, Metadata, Documents)> {
    let mut documents = Documents::new();
    if let Some((root, version)) = get(store, V3).await? {
        let key = V3.to_owned();
        if root.get("node_type").text() == Some("array") {
            documents.insert(key.clone(), root);
            let metadata = Metadata::Single { key, version };
            return Ok((Zarr.open(store).await?, metadata, documents));
        }
        let dataset = match hierarchy::consolidated_v3(&root) {
            Some(metadata) => {
                for (path, document) in metadata.object() {
                    documents.insert(hierarchy::key(path, V3), document.clone());
                }
                dataset_or_parts(store, &root).await?
            }
            None => {
                let dataset = Zarr.open(store).await?;
                get_all(store, own_keys(&dataset.root, &[V3], &[V3]), &mut documents).await?;
                dataset
            }
        };
        let version = Some(version);
        let metadata = Metadata::Consolidated { key, root, version };
        return Ok((dataset, metadata, documents));
    }
    if let Some((root, version)) = get(store, CONSOLIDATED).await? {
        for (key, document) in root.get("metadata").object() {
            documents.insert(key.clone(), document.clone());
        }
        let dataset = dataset_or_parts(store, &root).await?;
        let metadata = Metadata::Consolidated {
            key: CONSOLIDATED.to_owned(),
            root,
            version: Some(version),
        };
        return Ok((dataset, metadata, documents));
    }
    let dataset = Zarr.open(store).await?;
    if let Some((document, version)) = get(store, ARRAY).await? {
        documents.insert(ARRAY.to_owned(), document);
        let key = ARRAY.to_owned();
        return Ok((dataset, Metadata::Single { key, version }, documents));
    }
    let keys = own_keys(&dataset.root, &[GROUP, ATTRIBUTES], &[ARRAY, ATTRIBUTES]);
    get_all(store, keys, &mut documents).await?;
    let metadata = Metadata::Consolidated {
        key: CONSOLIDATED.to_owned(),
        root: consolidated_v2(&documents),
        version: None,
    };
    Ok((dataset, metadata, documents))
}

/// The hierarchy that a document with those of all members describes.
pub(super) fn dataset(store: &Store, root: &Json) -> Result<Dataset> {
    Ok(Dataset {
        location: store.location().into(),
        format: Zarr.name(),
        root: hierarchy::consolidated(store, root)?,
    })
}

/// The same, as readers do: they look at the members if the document is damaged, or say what is wrong.
async fn dataset_or_parts(store: &Store, root: &Json) -> Result<Dataset> {
    match dataset(store, root) {
        Ok(dataset) => Ok(dataset),
        Err(_) => Zarr.open(store).await,
    }
}

/// The keys of the documents of all members, whether they are there or not.
pub(super) fn own_keys(root: &Group, of_group: &[&str], of_array: &[&str]) -> Vec<String> {
    let mut keys = Vec::new();
    for group in root.walk() {
        keys.extend(
            of_group
                .iter()
                .map(|name| hierarchy::key(&group.path, name)),
        );
        let variables = group.variables.iter().map(|variable| variable.path.clone());
        let unreadable = group
            .unreadable
            .iter()
            .map(|array| hierarchy::key(&group.path, &array.name));
        for path in variables.chain(unreadable) {
            keys.extend(of_array.iter().map(|name| hierarchy::key(&path, name)));
        }
    }
    keys
}

/// A document with its version; `None` when there is none.
pub(super) async fn get(store: &Store, key: &str) -> Result<Option<(Json, Version)>> {
    let Some((bytes, version)) = store.get_bounded(key, LARGEST_DOCUMENT).await? else {
        return Ok(None);
    };
    Ok(Some((Json::parse(&bytes).within(|| key)?, version)))
}

/// Adds the documents that are there of those with these keys.
async fn get_all(store: &Store, keys: Vec<String>, documents: &mut Documents) -> Result<()> {
    for key in keys {
        if let Some((document, _)) = get(store, &key).await? {
            documents.insert(key, document);
        }
    }
    Ok(())
}

/// The document of Zarr v2 that holds all others.
fn consolidated_v2(documents: &Documents) -> Json {
    let members = documents.iter();
    Json::Object(vec![
        (
            "metadata".to_owned(),
            Json::Object(
                members
                    .map(|(key, json)| (key.clone(), json.clone()))
                    .collect(),
            ),
        ),
        ("zarr_consolidated_format".to_owned(), Json::Integer(1)),
    ])
}

/// Lets the document of a root group of Zarr v3 hold those of `members` too.
pub(super) fn consolidate_v3(root: &mut Json, members: Json) {
    let consolidated = Json::Object(vec![
        ("kind".to_owned(), Json::Text("inline".to_owned())),
        ("must_understand".to_owned(), Json::Bool(false)),
        ("metadata".to_owned(), members),
    ]);
    root.set("consolidated_metadata", consolidated);
}

/// The documents of all members of Zarr v3 but the root, by their paths.
fn members_v3(documents: &Documents) -> Json {
    let members = documents.iter().filter_map(|(key, document)| {
        let path = key.strip_suffix(V3)?.strip_suffix('/')?;
        Some((path.to_owned(), document.clone()))
    });
    Json::Object(members.collect())
}

/// White space by which a document differs from every other one with the same meaning.
///
/// Versions of objects are mostly sums of their bytes: a writer that has been given up and expects an earlier version must
/// not meet one that looks the same.
pub(super) fn mark() -> Vec<u8> {
    let id = write_id();
    let random = id.rsplit('-').next().unwrap_or(&id);
    let bits = random
        .bytes()
        .flat_map(|byte| (0..7).map(move |at| byte >> at & 1));
    let mut mark: Vec<u8> = bits
        .map(|bit| if bit == 0 { b' ' } else { b'\t' })
        .collect();
    mark.push(b'\n');
    mark
}

/// The document that holds all others, under its key.
pub(super) fn consolidated(key: &str, documents: &Documents) -> Json {
    if key != V3 {
        return consolidated_v2(documents);
    }
    let mut root = documents.get(V3).cloned().unwrap_or(Json::Null);
    consolidate_v3(&mut root, members_v3(documents));
    root
}

/// A document that is put whatever is there.
pub(super) fn anyway(key: &str, document: &Json) -> Object {
    Object {
        key: key.to_owned(),
        bytes: document.to_document().into(),
        expect: Expect::Anything,
    }
}

/// Refuses what is a part of a hierarchy: the lock and the metadata of the whole would know nothing of the change.
pub(super) async fn refuse_part(store: &Store) -> Result<()> {
    let Some(around) = store.around() else {
        return Ok(());
    };
    if Zarr.sniff(&around, &[]).await? {
        return Err(Error::Unsupported(format!(
            "{} is a part of {}, which has to be changed as a whole: INSERT INTO '{}'.\"{}\"",
            store.location(),
            around.location(),
            around.location(),
            store
                .location()
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default()
        )));
    }
    Ok(())
}
