"""
Knows a daemon by its reflection alone, with Google's implementations of gRPC and of protobuf: lists, describes
and calls. What it learns goes to standard output as JSON; the test judges.

    reflection-client.py TARGET v1alpha|v1 PROTOS
"""

import json
import os
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2 as pb

target, version, protos = sys.argv[1:]
channel = grpc.insecure_channel(target)
# Both versions have the same messages.
stream = channel.stream_stream(
    f'/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo',
    request_serializer=pb.ServerReflectionRequest.SerializeToString,
    response_deserializer=pb.ServerReflectionResponse.FromString,
)


def ask(**request):
    (response,) = stream(iter([pb.ServerReflectionRequest(**request)]))
    return response


def files_of(response):
    if response.HasField('error_response'):
        raise Exception(response.error_response.error_message)
    return [
        descriptor_pb2.FileDescriptorProto.FromString(encoded)
        for encoded in response.file_descriptor_response.file_descriptor_proto
    ]


services = [s.name for s in ask(list_services='').list_services_response.service]
files = {}
for service in services:
    for file in files_of(ask(file_containing_symbol=service)):
        files[file.name] = file
for name in files:
    # By its name, a file is the first, and all that it imports comes with it.
    answer = files_of(ask(file_by_filename=name))
    assert answer[0] == files[name], name
    assert set(answer[0].dependency) <= {f.name for f in answer}, name


def from_protoc():
    from grpc_tools import protoc

    out = os.path.join(tempfile.mkdtemp(), 'set')
    paths = [os.path.join(root, name) for root, _, names in os.walk(protos) for name in names]
    if protoc.main(['protoc', '-I' + protos, '--descriptor_set_out=' + out, *paths]) != 0:
        sys.exit('protoc failed')
    with open(out, 'rb') as file:
        return {f.name: f for f in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file}


# A pool refuses descriptions that do not fit together.
pool = descriptor_pool.DescriptorPool()


def add(name, added=set()):
    if name in added:
        return
    added.add(name)
    for dependency in files[name].dependency:
        add(dependency)
    pool.Add(files[name])


for name in files:
    add(name)


def symbols(scope, one):
    """Every name that a description defines."""
    for list_name in ['message_type', 'nested_type', 'enum_type', 'service', 'field', 'oneof_decl', 'method']:
        for member in getattr(one, list_name, []):
            name = f'{scope}.{member.name}'
            yield name
            yield from symbols(name, member)
            if list_name == 'enum_type':
                yield from (f'{scope}.{value.name}' for value in member.value)


found = {}
for file in files.values():
    for symbol in symbols(file.package, file):
        found[symbol] = files_of(ask(file_containing_symbol=symbol))[0].name == file.name

methods = {}
messages = {}


def walk(message):
    if message.full_name in messages:
        return
    messages[message.full_name] = [f'{f.name}={f.number}' for f in message.fields]
    for field in message.fields:
        if field.message_type:
            walk(field.message_type)


def stream_of(on, name):
    return ('stream ' if on else '') + name


for service in services:
    for method in pool.FindServiceByName(service).methods:
        takes = stream_of(method.client_streaming, method.input_type.full_name)
        gives = stream_of(method.server_streaming, method.output_type.full_name)
        methods[method.full_name] = f'{takes} -> {gives}'
        walk(method.input_type)
        walk(method.output_type)

called = {}


def call(method, *requests):
    """Calls a method by its complete name; requests are dictionaries of fields. Gives all answers."""
    service, name = method.rsplit('.', 1)
    descriptor = pool.FindServiceByName(service).FindMethodByName(name)
    takes = message_factory.GetMessageClass(descriptor.input_type)
    gives = message_factory.GetMessageClass(descriptor.output_type)
    begin = channel.stream_stream(
        f'/{service}/{name}', request_serializer=takes.SerializeToString, response_deserializer=gives.FromString
    )
    answers = begin(iter([takes(**request) for request in requests]), timeout=30)
    called[method] = True
    if name == 'Watch':
        return [next(answers)]
    return list(answers)


for dialect in ['tvix', 'snix']:
    castore, store = f'{dialect}.castore.v1', f'{dialect}.store.v1'
    data = f'contents for {dialect}'.encode()
    (put,) = call(f'{castore}.BlobService.Put', {'data': data[:5]}, {'data': data[5:]})
    assert call(f'{castore}.BlobService.Read', {'digest': put.digest})[0].data == data
    assert len(call(f'{castore}.BlobService.Stat', {'digest': put.digest, 'send_chunks': True})) == 1
    file = {'name': b'file', 'digest': put.digest, 'size': len(data)}
    (root,) = call(f'{castore}.DirectoryService.Put', {'files': [file]})
    (directory,) = call(f'{castore}.DirectoryService.Get', {'digest': root.root_digest, 'recursive': True})
    assert directory.files[0].digest == put.digest
    node = {'digest': root.root_digest, 'size': 1}
    (nar,) = call(f'{store}.PathInfoService.CalculateNAR', {'directory': node})
    name = f'00000000000000000000000000000000-{dialect}'.encode()
    info = {
        'node': {'directory': {'name': name, **node}},
        'narinfo': {'nar_size': nar.nar_size, 'nar_sha256': nar.nar_sha256},
    }
    (stored,) = call(f'{store}.PathInfoService.Put', info)
    assert call(f'{store}.PathInfoService.Get', {'by_output_hash': bytes(20)}) == [stored]
    assert call(f'{store}.PathInfoService.List', {}) == [stored]
    storage = 'build.bazel.remote.execution.v2.ContentAddressableStorage'
    named = {'hash': put.digest.hex(), 'size_bytes': len(data)}
    blake3 = {'digest_function': 'BLAKE3'}
    (missing,) = call(f'{storage}.FindMissingBlobs', {'blob_digests': [named], **blake3})
    assert not missing.missing_blob_digests
    (spliced,) = call(f'{storage}.SpliceBlob', {'blob_digest': named, 'chunk_digests': [named], **blake3})
    assert spliced.blob_digest.hash == named['hash']
    request = {'digest': named, 'data': data}
    (updated,) = call(f'{storage}.BatchUpdateBlobs', {'requests': [request], **blake3})
    (read,) = call(f'{storage}.BatchReadBlobs', {'digests': [named], **blake3})
    assert [one.status.code for one in [*updated.responses, *read.responses]] == [0, 0]
    assert read.responses[0].data == data
    name = f'blobs/blake3/{named["hash"]}/{len(data)}'
    byte_stream = 'google.bytestream.ByteStream'
    assert b''.join(part.data for part in call(f'{byte_stream}.Read', {'resource_name': name})) == data
    upload = {'resource_name': f'uploads/1/{name}'}
    (written,) = call(f'{byte_stream}.Write', {**upload, 'data': data, 'finish_write': True})
    (queried,) = call(f'{byte_stream}.QueryWriteStatus', upload)
    assert written.committed_size == queried.committed_size == len(data)
(capabilities,) = call('build.bazel.remote.execution.v2.Capabilities.GetCapabilities', {})
assert len(capabilities.cache_capabilities.digest_functions) == 1

health = 'grpc.health.v1.Health'
serving = {service: call(f'{health}.Check', {'service': service})[0].status for service in ['', 'far-store', *services]}
assert {name: one.status for name, one in call(f'{health}.List', {})[0].statuses.items()} == serving
watched = [call(f'{health}.Watch', {'service': service})[0].status for service in ['', health, 'nobody']]
for one in ['v1alpha', 'v1']:
    request = {'file_containing_symbol': health}
    call(f'grpc.reflection.{one}.ServerReflection.ServerReflectionInfo', request, request)


def refusal(**request):
    answer = ask(**request)
    assert answer.original_request == pb.ServerReflectionRequest(**request)
    return answer.error_response.error_code


extension = pb.ExtensionRequest
refusals = {
    'file': refusal(file_by_filename='no.proto'),
    'symbol': refusal(file_containing_symbol='tvix.castore.v1'),
    'noSymbol': refusal(file_containing_symbol=''),
    'leadingDot': refusal(file_containing_symbol='.tvix.castore.v1.Node'),
    'extension': refusal(file_containing_extension=extension(containing_type='tvix.castore.v1.Node', extension_number=1)),
    'numbers': refusal(all_extension_numbers_of_type='no.Type'),
    'nothing': refusal(host='x'),
}
numbers = ask(all_extension_numbers_of_type='tvix.castore.v1.Node').all_extension_numbers_response
many = stream(iter([pb.ServerReflectionRequest(list_services='*')] * 100))

print(
    json.dumps(
        {
            'services': services,
            'unlikeProtoc': [name for name, file in from_protoc().items() if files.get(name) != file],
            'files': sorted(files),
            'symbols': len(found),
            'notFound': [symbol for symbol, right in found.items() if not right],
            'methods': methods,
            'notCalled': [method for method in methods if method not in called],
            'messages': messages,
            'serving': sorted(set(serving.values())),
            'watched': watched,
            'refusals': refusals,
            'extensionNumbers': [numbers.base_type_name, list(numbers.extension_number)],
            'answersOfOneStream': len(list(many)),
        }
    )
)
