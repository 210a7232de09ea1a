//! A dataset that is made in an object store.

use std::sync::Arc;

use hyperslab::append::{AppendOptions, IfExists, OldCells, Outcome, Region, Target};
use hyperslab::array::blueprint::{Blueprint, Codecs, NewGroup, NewVariable};
use hyperslab::array::dtype::ElementType;
use hyperslab::array::{AttributeValue, Attributes};
use hyperslab::error::Error;
use hyperslab::format::Format;
use hyperslab::format::zarr::Zarr;
use hyperslab::read::{Buffers, read};
use hyperslab::store::Store;
use object_store::memory::InMemory;

#[tokio::test]
async fn nobody_finds_it_before_it_is_committed() {
    for version in [2, 3] {
        let objects = Arc::new(InMemory::new());
        let store = Store::with_objects("memory:///cube.zarr", objects, "cube.zarr".into());
        let target = Target::new(store.clone(), &Zarr);
        let options = AppendOptions::default();
        let blueprint = Blueprint {
            version: Some(version),
            ..blueprint()
        };

        let mut first = target
            .create(&blueprint, IfExists::Refuse, options)
            .await
            .unwrap();
        first.write(region(&[1, 2, 3])).await.unwrap();
        assert!(!target.exists().await.unwrap());
        assert!(matches!(Zarr.open(&store).await, Err(Error::NotFound(_))));
        first.abandon().await.unwrap();

        let mut second = target
            .create(&blueprint, IfExists::Refuse, options)
            .await
            .unwrap();
        // A length that nobody knew at the beginning.
        second.write(region(&[4, 5, 6, 7])).await.unwrap();
        second.resize("group", "x", 4).unwrap();
        let outcome = second.commit("create").await.unwrap();
        assert_eq!(outcome, Outcome::Committed { version: Some(0) });

        let dataset = Zarr.open(&store).await.unwrap();
        assert_eq!(dataset.root.attributes.text("title"), Some("made"));
        let group = &dataset.root.groups[0];
        assert_eq!(group.attributes.text("of"), Some("group"));
        let variable = &group.variables[0];
        assert_eq!(variable.dimensions, ["x"]);
        assert_eq!(variable.shape(), [4]);
        let all = hyperslab::array::hyperslab::Selection::all(variable.shape());
        let slab = read(&store, variable, all, &mut Buffers::default())
            .await
            .unwrap();
        let hyperslab::array::slab::SlabData::Fixed(buffer) = slab.data else {
            panic!("{slab:?}");
        };
        assert_eq!(buffer.as_slice(), [4, 0, 5, 0, 6, 0, 7, 0]);

        let again = target.create(&blueprint, IfExists::Refuse, options).await;
        assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
        let removed = target.create(&blueprint, IfExists::Remove, options).await;
        removed.unwrap().abandon().await.unwrap();
        assert!(!target.exists().await.unwrap());
    }
}

fn blueprint() -> Blueprint {
    let text = |name: &str, text: &str| {
        Attributes(vec![(
            name.to_owned(),
            AttributeValue::Text(text.to_owned()),
        )])
    };
    Blueprint {
        version: None,
        groups: vec![
            NewGroup {
                path: String::new(),
                attributes: text("title", "made"),
                dimensions: Vec::new(),
            },
            NewGroup {
                path: "group".into(),
                attributes: text("of", "group"),
                dimensions: Vec::new(),
            },
        ],
        variables: vec![NewVariable {
            path: "group/v".into(),
            element: ElementType::Int16,
            dimensions: vec!["x".into()],
            shape: vec![3],
            chunk: vec![2],
            shard: None,
            codecs: Codecs::Usual,
            fill: None,
            attributes: Attributes::default(),
        }],
    }
}

fn region(values: &[i16]) -> Region {
    Region {
        variable: "group/v".into(),
        start: vec![0],
        shape: vec![values.len() as u64],
        cells: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        old: OldCells::Kept,
    }
}
